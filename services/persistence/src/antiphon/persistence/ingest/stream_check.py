"""Check that the stream is the one that was read, by the last event: its message is still at its position.

Positions alone do not tell: a stream that was recreated, or restored shorter, gives them out again.
"""

import hashlib

import msgspec

from antiphon.chassis.bus import Bus, StreamMissing, StreamState
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.ingest.checkpoint import Checkpoint
from antiphon.persistence.ingest.validate import Validated, ValidEvent

RECREATE = "run `python -m antiphon.persistence streams recreate`"
MISSING = f"stream {SESSIONS.name} does not exist: {RECREATE}"


class StreamChanged(Exception):
    """The stream is not the one that was read: an operator must act."""


class _Identified(msgspec.Struct):
    id: str


_decoder = msgspec.json.Decoder(_Identified)


def identity_of(message: Validated) -> str:
    """Return what identifies a message: the id of an event, a hash of the payload of a dead letter."""
    return message.envelope.id if isinstance(message, ValidEvent) else _hash(message.incoming.payload)


def identities_of(payload: bytes) -> tuple[str, ...]:
    """Return the identities that a stored message may have been given; the last is its hash."""
    try:
        return _decoder.decode(payload).id, _hash(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return (_hash(payload),)


async def check_stream(bus: Bus, checkpoint: Checkpoint) -> StreamState:
    """Return the state of the stream if it continues what was read up to the checkpoint.

    Raises StreamChanged, StreamMissing, and the errors of the bus.
    """
    stream = await bus.stream_state()
    if stream is None:
        raise StreamMissing(MISSING)
    if stream.last < checkpoint.read_through:
        raise _changed(
            f"it ends at position {stream.last}, but was read up to {checkpoint.read_through}", stream
        )
    payload = await bus.payload_at(checkpoint.position) if checkpoint.position >= stream.first else None
    if payload is not None and checkpoint.last_event_id is not None:
        found = identities_of(payload)
        if checkpoint.last_event_id not in found:
            raise _changed(
                f"expected event {checkpoint.last_event_id} at position {checkpoint.position}, "
                f"found {found[0]}",
                stream,
            )
    # The message was dropped or purged, or its identity is not known: only the time of creation tells.
    elif checkpoint.stream_created_at not in (None, stream.created_at):
        raise _changed(
            f"the stream that was read up to position {checkpoint.read_through} "
            f"was created at {checkpoint.stream_created_at}",
            stream,
        )
    return stream


def _changed(what: str, stream: StreamState) -> StreamChanged:
    return StreamChanged(
        f"stream {SESSIONS.name} was recreated or restored: {what}; "
        f"this one was created at {stream.created_at} and has positions {stream.first} to {stream.last}. "
        f"Events may be lost. To continue, {RECREATE}"
    )


def _hash(payload: bytes) -> str:
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"
