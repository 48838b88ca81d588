"""The progress of ingest: what Postgres has of each partition, and what NATS has for it."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from antiphon.chassis.bus import Bus, BusError, StreamState
from antiphon.chassis.nats_access import NatsAccess
from antiphon.contracts.ids import TENANT_PATTERN
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import PARTITIONS, partition_filter
from antiphon.persistence.leases.locks import INGEST, holders, lease_name
from antiphon.persistence.status.document import DeadLetters, Lag, Partition
from antiphon.persistence.status.lag import COUNTED, age

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CONNECT_SECONDS = 3.0

_PARTITIONS = """
select partition,
       coalesce(checkpoint.position, 0) as position,
       coalesce(checkpoint.epoch, 0) as epoch,
       checkpoint.updated_at,
       checkpoint.stopped,
       (select count(*) from (
            select from dead_letters where dead_letters.partition = number.partition limit $2) as letters
       ) as dead_letters
  from (select generate_series(0, $1::integer)::smallint as partition) as number
  left join checkpoints as checkpoint on checkpoint.name = 'ingest:' || partition
 order by partition
"""
_NEWEST_DEAD_LETTER = "select recorded_at, error from dead_letters order by id desc limit 1"
_DEAD_LETTERS_BY_TENANT = """
select case when subject ~ $1 then split_part(subject, '.', 3) else 'unknown' end as tenant, count(*)
  from (select subject from dead_letters order by id desc limit $2) as newest
 group by tenant
 order by count(*) desc, tenant
 limit 20
"""
_TENANT_SUBJECT = rf"^sessions\.[0-9]+\.{TENANT_PATTERN.strip('^$')}\."


class NoStream(NamedTuple):
    """Why NATS cannot be asked."""

    reason: str


class OnStream(NamedTuple):
    """What NATS has: the stream, and the head and the lag of each partition."""

    stream: StreamState | None
    heads: dict[int, int]
    lags: dict[int, Lag]


async def read_checkpoints(connection: "Connection") -> dict[int, int]:
    """Return how far each partition is read from the stream.

    Raises any of POSTGRES_ERRORS.
    """
    return {row[0]: row[1] for row in await connection.fetch(_PARTITIONS, PARTITIONS - 1, 0)}


async def read_partitions(connection: "Connection", on_stream: OnStream | None) -> list[Partition]:
    """Return the progress of each partition.

    Raises any of POSTGRES_ERRORS.
    """
    rows = await connection.fetch(_PARTITIONS, PARTITIONS - 1, COUNTED)
    held = await holders(connection, [lease_name(INGEST, number) for number in range(PARTITIONS)])
    return [
        _partition(on_stream, held.get(lease_name(INGEST, row["partition"])), **dict(row)) for row in rows
    ]


def _partition(  # the columns of _PARTITIONS
    on_stream: OnStream | None,
    holder: str | None,
    *,
    partition: int,
    position: int,
    epoch: int,
    updated_at: datetime | None,
    stopped: str | None,
    dead_letters: int,
) -> Partition:
    head = None if on_stream is None else on_stream.heads.get(partition, 0)
    caught_up = None if head is None else position >= head
    lag = Lag(0, seconds=0.0) if caught_up else Lag(None)
    if on_stream is not None and not caught_up:
        lag = on_stream.lags.get(partition, lag)
    return Partition(
        partition, position, head, caught_up, lag, epoch, updated_at, holder, dead_letters, stopped
    )


async def read_dead_letters(connection: "Connection", partitions: list[Partition]) -> DeadLetters:
    """Return the dead letters of all partitions.

    Raises any of POSTGRES_ERRORS.
    """
    newest = await connection.fetchrow(_NEWEST_DEAD_LETTER)
    by_tenant = await connection.fetch(_DEAD_LETTERS_BY_TENANT, _TENANT_SUBJECT, COUNTED)
    newest_at, newest_error = newest or (None, None)
    return DeadLetters(
        sum(part.dead_letters for part in partitions),
        any(part.dead_letters == COUNTED for part in partitions),
        newest_at,
        newest_error,
        {row["tenant"]: row["count"] for row in by_tenant},
    )


async def read_stream(access: NatsAccess, checkpoints: dict[int, int]) -> OnStream | NoStream:
    """Read the stream and what it has after each checkpoint."""
    try:
        bus = await Bus.connect(access, name="persistence status", connect_timeout_seconds=CONNECT_SECONDS)
    except BusError as error:
        return NoStream(str(error))
    try:
        stream = await bus.stream_state()
        if stream is None:
            return OnStream(None, {}, {})
        newest = await asyncio.gather(*(bus.last(partition_filter(number)) for number in range(PARTITIONS)))
        heads = {number: message.position for number, message in enumerate(newest) if message is not None}
        behind = [number for number, head in heads.items() if head > checkpoints.get(number, 0)]
        lags = await asyncio.gather(*(_lag(bus, number, checkpoints.get(number, 0)) for number in behind))
        return OnStream(stream, heads, dict(zip(behind, lags, strict=True)))
    except BusError as error:
        return NoStream(str(error))
    finally:
        await bus.close()


async def _lag(bus: Bus, partition: int, position: int) -> Lag:
    """Return the lag of a partition that is behind.

    A consumer counts what it has not delivered, or has no ack of, which follows a commit by a moment.
    """
    first = await bus.first_after(partition_filter(partition), position)
    unread = await bus.unacknowledged(ingest_consumer(partition))
    published = None if first is None else first.published_at
    return Lag(
        None if unread is None else max(1, unread), seconds=None if published is None else age(published)
    )
