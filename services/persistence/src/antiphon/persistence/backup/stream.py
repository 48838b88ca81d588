"""Make the stream again from the tail in a backup, after everything that the log has."""

from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from antiphon.chassis.bus import Bus, Incoming, replace
from antiphon.chassis.database import Database
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.backup.manifest import Manifest
from antiphon.persistence.backup.tail import read_tail
from antiphon.persistence.streams.recreate import Known, Ranges, recreate, with_unknown_positions
from antiphon.persistence.streams.status import read_checkpoints

CHUNK = 200  # messages in memory
# Clients hold positions of events that came after the backup. The new ones are beyond all of them, so that
# nobody takes an event that it has not seen for one that it has. The time makes a second restore of the same
# backup go on beyond what came after the first.
POSITIONS_APART = 1_000_000_000
POSITIONS_PER_SECOND = 1_000_000


class Refilled(Struct):
    """The new stream: its first position, its messages, and what neither it nor the log has.

    `missing` maps a partition to the positions (first, last) among which its lost events were, if the log is
    older than the backup of the stream; `most` is how many events that are at most.
    """

    first: int
    messages: int
    missing: Ranges
    most: int


async def restore_stream(
    bus: Bus,
    database: Database,
    folder: Path,
    manifest: Manifest,
    *,
    replicas: int | None = None,
    max_bytes: int | None = None,
) -> Refilled:
    """Make the stream, which has no messages or does not exist; an interrupted run is completed by the next.

    Raises BackupError, Refused, StorageTooSmall, and the errors of the bus and of Postgres.
    """
    state = await bus.stream_state()
    if state is not None and not replace.in_progress(state):
        await replace.delete(bus.connection, SESSIONS.name)  # it is empty
    await replace.make_copies(bus.connection, replicas)
    chunk: list[Incoming] = []
    for message in read_tail(folder):
        chunk.append(message)
        if len(chunk) == CHUNK:
            await replace.copy(bus.connection, chunk)
            chunk = []
    await replace.copy(bus.connection, chunk)
    last = _last_in_use(manifest)
    if state is not None:
        last = max(last, state.last)
    made = await recreate(
        bus,
        database,
        replace_existing=False,
        replicas=replicas,
        max_bytes=max_bytes,
        known=Known(lost=await _lost(database, manifest), last=last),
    )
    return Refilled(made.first, made.taken_over, made.missing, made.most)


def _last_in_use(manifest: Manifest) -> int:
    saved = max(manifest.read_through) if manifest.stream is None else manifest.stream.last
    seconds = max(0.0, (datetime.now(UTC) - manifest.ended_at).total_seconds())
    return saved + POSITIONS_APART + int(seconds * POSITIONS_PER_SECOND)


async def _lost(database: Database, manifest: Manifest) -> Ranges:
    """Return what neither the log nor the tail has.

    Partitions had read it when the stream was saved, and the log is older; or the stream had dropped it.
    """
    dropped = 0 if manifest.stream is None else manifest.stream.first - 1
    checkpoints = await read_checkpoints(database)
    ends = {number: max(through, dropped) for number, through in enumerate(manifest.read_through)}
    lost = {
        number: (checkpoints[number].read_through + 1, end)
        for number, end in ends.items()
        if checkpoints[number].read_through < end
    }
    return await with_unknown_positions(database, lost)
