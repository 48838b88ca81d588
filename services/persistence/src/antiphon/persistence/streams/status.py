"""The state of the stream of events, and of each partition that is read from it, for operators."""

from datetime import datetime

import msgspec

from antiphon.chassis.bus import Bus, StreamMissing, StreamState
from antiphon.chassis.database import Database
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.ingest.checkpoint import Checkpoint
from antiphon.persistence.ingest.stream_check import RECREATE, StreamChanged, check_stream

_CHECKPOINTS = """
select number,
       coalesce(position, 0),
       coalesce(epoch, 0),
       last_event_id,
       greatest(read_through, position, 0),
       stream_created_at,
       stopped
  from generate_series(0, $1::integer) as number
  left join checkpoints on name = 'ingest:' || number
 order by number
"""
READ_GAPS = "select partition, first, last, reason, noticed_at from log_gaps order by noticed_at, partition"


class Gap(msgspec.Struct):
    """Positions that a partition can never read; those of other partitions among them are not missing."""

    partition: int
    first: int
    last: int
    reason: str
    noticed_at: datetime


class PartitionStatus(msgspec.Struct):
    """What one partition has read, and why it cannot go on, if so."""

    partition: int
    position: int
    last_event_id: str | None
    problem: str | None


class StreamStatus(msgspec.Struct):
    """The stream, None when it does not exist; the partitions; what is known to be lost."""

    stream: StreamState | None
    partitions: list[PartitionStatus]
    gaps: list[Gap]

    @property
    def problems(self) -> list[str]:
        """What an operator must act on."""
        return list(dict.fromkeys(part.problem for part in self.partitions if part.problem is not None))

    def to_json(self) -> str:
        """Return the status as JSON."""
        return msgspec.json.encode(self).decode()


async def read_checkpoints(database: Database) -> dict[int, Checkpoint]:
    """Return the checkpoint of each partition; one that never ran is at 0."""
    rows = await database.pool.fetch(_CHECKPOINTS, PARTITIONS - 1)
    return {number: Checkpoint(*row) for number, *row in rows}


async def problem_of(bus: Bus, checkpoint: Checkpoint) -> str | None:
    """Return why a partition cannot continue with the stream, or None if it can.

    Raises the errors of the bus.
    """
    try:
        await check_stream(bus, checkpoint)
    except (StreamChanged, StreamMissing) as error:
        return str(error)
    return None


async def read_stream_status(bus: Bus, database: Database) -> StreamStatus:
    """Check the stream against the checkpoints; nothing is changed.

    Raises the errors of the bus and of Postgres.
    """
    partitions = [
        PartitionStatus(
            number,
            checkpoint.position,
            checkpoint.last_event_id,
            checkpoint.stopped or await problem_of(bus, checkpoint),
        )
        for number, checkpoint in (await read_checkpoints(database)).items()
    ]
    gaps = [Gap(*row) for row in await database.pool.fetch(READ_GAPS)]
    return StreamStatus(await bus.stream_state(), partitions, gaps)


def render(status: StreamStatus) -> str:
    """Return the status as text."""
    stream = status.stream
    if stream is None:
        lines = [f"stream {SESSIONS.name} does not exist: {RECREATE}"]
    else:
        held = f"{stream.messages} messages, positions {stream.first} to {stream.last}"
        lines = [f"stream {SESSIONS.name}, created at {stream.created_at}: {held}"]
    lines += ["", f"{'partition':>9}  {'read up to':>12}  last event"]
    lines += [
        f"{part.partition:>9}  {part.position:>12}  {part.last_event_id or '—'}"
        f"{'' if part.problem is None else '  STOPPED'}"
        for part in status.partitions
    ]
    lines += ["", *status.problems, *render_gaps(status.gaps)]
    return "\n".join(lines).rstrip()


def render_gaps(gaps: list[Gap]) -> list[str]:
    """Return a line for each gap."""
    return [
        f"gap: partition {gap.partition}, positions {gap.first} to {gap.last}: {gap.reason} "
        f"(noticed at {gap.noticed_at})"
        for gap in gaps
    ]
