"""The tail of the stream: the messages that the log of a backup does not have."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from antiphon.chassis.bus import TRACEPARENT, Bus, Incoming, StreamState, replace
from antiphon.chassis.bus.publish import MESSAGE_ID
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import ALL_EVENTS, PROBE
from antiphon.persistence.backup.folder import Draft
from antiphon.persistence.backup.manifest import BackupError, Tail

FILE = "stream.ndjson"


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the stream."""

    position: int
    subject: str
    payload: bytes
    message_id: str = ""
    traceparent: str = ""


_decoder = msgspec.json.Decoder(Kept)


async def write_tail(bus: Bus, draft: Draft, read_through: Sequence[int]) -> Tail | None:
    """Write what partitions have not read of the stream, up to its end; return None if there is no stream.

    Raises BackupError, BusUnavailable, HistoryGap, OSError.
    """
    state = await _open_stream(bus)
    if state is None:
        return None
    last = state.last
    with draft.file(FILE) as file:
        async for message in bus.read(ALL_EVENTS, min(read_through)):
            last = max(last, message.position)
            if message.subject != PROBE and not _is_read(message, read_through):
                file.write_line(_kept(message))
    after = await _open_stream(bus)
    if after is None or after.created_at != state.created_at:
        raise BackupError(f"The stream {SESSIONS.name} was recreated meanwhile: run this again.")
    return Tail(file.done(), state.first, last)


async def _open_stream(bus: Bus) -> StreamState | None:
    """Return the state of the stream, or None if there is none.

    Raises BackupError while it is recreated, and BusUnavailable.
    """
    state = await bus.stream_state()
    # while it is deleted, copies of it may be all that there is of an event
    recreating = await replace.has_copies(bus.connection) if state is None else replace.in_progress(state)
    if recreating:
        raise BackupError(
            f"The stream {SESSIONS.name} is being recreated: run this again when that has ended; if it was "
            "interrupted, run `python -m antiphon.persistence streams recreate` first."
        )
    return state


def _is_read(message: Incoming, read_through: Sequence[int]) -> bool:
    number = message.subject.split(".")[1:2]
    if not number or not number[0].isdecimal() or int(number[0]) >= len(read_through):
        return False  # no partition has it
    return message.position <= read_through[int(number[0])]


def _kept(message: Incoming) -> Kept:
    headers = message.headers or {}
    return Kept(
        message.position,
        replace.printable(message.subject),
        message.payload,
        headers.get(MESSAGE_ID, ""),
        headers.get(TRACEPARENT, ""),
    )


def read_tail(folder: Path) -> Iterator[Incoming]:
    """Yield the messages of the tail, in order.

    Raises BackupError.
    """
    path = folder / FILE
    try:
        with path.open("rb") as lines:
            for line in lines:
                kept = _decoder.decode(line)
                headers = {MESSAGE_ID: kept.message_id, TRACEPARENT: kept.traceparent}
                yield Incoming(
                    subject=kept.subject,
                    payload=kept.payload,
                    position=kept.position,
                    consumer_sequence=0,
                    headers={name: value for name, value in headers.items() if value},
                    published_at=None,
                )
    except (OSError, msgspec.DecodeError) as error:
        raise BackupError(f"{path} cannot be read: {error}. Use another backup.") from error
