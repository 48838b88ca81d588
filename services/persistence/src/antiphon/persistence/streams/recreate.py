"""Make the stream of events again, after everything that the log has; keep what nobody has read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from antiphon.chassis.bus import Bus, StreamState, other_consumers, replace
from antiphon.chassis.bus.other_consumers import Behind
from antiphon.chassis.database import Database
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.ingest.stream_check import MISSING
from antiphon.persistence.streams.status import problem_of, read_checkpoints
from antiphon.persistence.streams.unread import unread_messages

RECREATING = "the stream is being recreated; if that was interrupted, run `streams recreate` again"
REASON = "the stream was recreated: what it held here and the log does not is lost"
CHECKS_COUNT = "what services stored to check the stream (sessions.probe) counts as well"
DROPPED = "dropped from the stream before it was read, if it belonged to the partition"

# The higher epoch fences running commits: from now on no checkpoint changes. What is wrong with a partition
# is stored, because nobody can tell any more when the stream is gone.
_STOP_ALL = """
insert into checkpoints (name, epoch, stopped)
select 'ingest:' || number, 1, reason from unnest($1::integer[], $2::text[]) as wanted (number, reason)
    on conflict (name) do update set epoch = checkpoints.epoch + 1, stopped = excluded.stopped
"""
_SKIP_DROPPED = "update checkpoints set read_through = $1 where name = any($2::text[])"
_CONTINUE = """
update checkpoints
   set epoch = epoch + 1, stopped = null, stream_created_at = $1, read_through = $2, updated_at = now()
 where name like 'ingest:%'
"""
_UNDO_STOP = """
update checkpoints set epoch = epoch + 1, stopped = null, updated_at = now()
 where name like 'ingest:%' and stopped = $1
"""
_GAP = """
insert into log_gaps (partition, first, last, reason) values ($1, $2, $3, $4)
    on conflict (partition, first) do update set last = excluded.last, reason = excluded.reason
"""
# The positions of a range that the log or the dead letters have, of whichever partition.
_KNOWN = """
select count(distinct position)
  from (select position from event_log
         where partition = any($1::smallint[]) and position > $2 and position <= $3
         union all
        select position from dead_letters
         where partition = any($1::smallint[]) and position > $2 and position <= $3) as known
"""
_LOCK = "select pg_try_advisory_lock(hashtextextended('streams recreate', 0))"
_UNLOCK = "select pg_advisory_unlock(hashtextextended('streams recreate', 0))"


class Refused(Exception):
    """Nothing was changed; the message says why, and what to do."""


Ranges = dict[int, tuple[int, int]]  # first and last position, by partition


class Known(Struct, frozen=True):
    """What a caller knows who has set the copies aside: they and the log have everything but `lost`.

    `last` is the last position that was in use; the stream starts after it.
    """

    lost: Ranges
    last: int


class Recreated(Struct):
    """The new stream: its first position, the messages taken over, and what can never be read.

    `missing` maps a partition to the positions (first, last) among which its lost events were, if any;
    `most` is the number of positions in all these ranges that nothing in the log has.
    `dropped` are consumers of others that lost what they had not handled.
    """

    first: int
    taken_over: int
    missing: Ranges
    most: int
    dropped: list[Behind]


async def recreate(
    bus: Bus,
    database: Database,
    *,
    replace_existing: bool,
    drop_consumers: bool = False,
    replicas: int | None = None,
    max_bytes: int | None = None,
    known: Known | None = None,
) -> Recreated:
    """Replace the stream by one that starts after the highest checkpoint, and let the partitions continue.

    Messages of an existing stream that are not in the log are taken over, in order. Publishers wait
    meanwhile. The consumers of others are made again to deliver all of the new stream; while one has events
    that it has not handled, the stream is not replaced, unless such consumers are to be dropped.
    An interrupted run is completed by the next one. With what is `known`, the copies were made by the caller.
    Raises Refused, StorageTooSmall before anything is deleted, and the errors of the bus and of Postgres.
    """
    async with _alone(database):
        existing = await bus.stream_state()
        interrupted = await _interrupted(bus, existing)
        changed = {} if known else await _changed(bus, database, interrupted=interrupted)
        if existing is not None and not interrupted and not replace_existing:
            raise Refused(_why_not(existing, list(changed)))
        if existing is not None and not interrupted and not drop_consumers:
            _refuse_while_behind(await other_consumers.behind(bus.connection))
        if existing is not None and max_bytes is not None:
            await replace.resize(bus.connection, SESSIONS, max_bytes)
        async with database.transaction() as connection:
            numbers = range(PARTITIONS)
            await connection.execute(_STOP_ALL, numbers, [changed.get(n, RECREATING) for n in numbers])
        dropped: Ranges = {}
        if existing is not None and not interrupted:
            await replace.delete(bus.connection, replace.UNREAD)  # of a run that ended just before it did
            dropped = await _record_dropped(database, existing.first - 1, certain=not changed)
        checkpoints = await read_checkpoints(database)
        read = max(checkpoint.read_through for checkpoint in checkpoints.values())
        first = 1 + max(read, known.last if known else 0)
        if existing is not None:
            await _set_unread_aside(bus, database, existing, drop_consumers=drop_consumers)
        await replace.create_closed(bus.connection, SESSIONS, first, replicas, max_bytes)
        gone = await other_consumers.restore(bus.connection)  # before there is anything to skip
        taken_over = await replace.refill(bus.connection)
        lost = {
            number: (checkpoints[number].read_through + 1, first - 1)
            for number in changed
            if checkpoints[number].read_through < first - 1
        }
        # A partition that went on with another stream may have positions of that one: it proves nothing then.
        replaced = any(reason != MISSING for reason in changed.values())
        if not replaced:
            lost = await with_unknown_positions(database, lost)
        if known:
            lost = known.lost
        await _record(database, await bus.stream_state(), first, lost)
        await replace.open_intake(bus.connection, SESSIONS)
        await replace.delete(bus.connection, replace.UNREAD)
        missing = {number: (low, lost.get(number, (0, high))[1]) for number, (low, high) in dropped.items()}
        missing = {**lost, **missing}
        return Recreated(first, taken_over, missing, await unknown_positions(database, missing), gone)


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    async with database.pool.acquire() as connection:
        if not await connection.fetchval(_LOCK):
            raise Refused("The stream is being recreated by another process.")
        try:
            yield
        finally:
            await connection.execute(_UNLOCK)


async def _interrupted(bus: Bus, existing: StreamState | None) -> bool:
    """Return whether an earlier run has closed, deleted or created the stream."""
    if existing is not None:
        return replace.in_progress(existing)
    return await replace.has_copies(bus.connection)


async def _changed(bus: Bus, database: Database, *, interrupted: bool) -> dict[int, str]:
    """Return why partitions cannot continue with the stream, by number; those that can are left out."""
    reasons: dict[int, str | None] = {}
    for number, checkpoint in (await read_checkpoints(database)).items():
        if checkpoint.stopped not in (None, RECREATING):
            reasons[number] = checkpoint.stopped
        elif checkpoint.stopped is None or not interrupted:  # else the interrupted run has looked
            reasons[number] = await problem_of(bus, checkpoint)
    return {number: reason for number, reason in reasons.items() if reason is not None}


def _why_not(existing: StreamState, stopped: list[int]) -> str:
    about = f"The stream {SESSIONS.name} exists, with positions {existing.first} to {existing.last}"
    if not stopped:
        return f"{about}, and it is the one that was read: there is nothing to recreate."
    return (
        f"{about}; partitions {', '.join(map(str, stopped))} cannot continue with it. To delete it and "
        "create it again, add --replace: its messages that are not in the log are taken over."
    )


def _refuse_while_behind(consumers: list[Behind]) -> None:
    if consumers:
        raise Refused(
            f"Consumers of the stream {SESSIONS.name} have events that they have not handled, and would lose "
            f"them with it:\n{_lines(consumers)}\n"
            "Nothing was changed. Start the processes that they belong to, let them catch up, and run this "
            f"again. A consumer that is no longer used: `nats consumer rm {SESSIONS.name} NAME`. To accept "
            "the loss, add --drop-consumers."
        )


def _lines(consumers: list[Behind]) -> str:
    return "\n".join(
        f"  {each.name}: {each.undelivered} not delivered, {each.unacknowledged} not acknowledged"
        for each in consumers
    )


async def _set_unread_aside(
    bus: Bus, database: Database, existing: StreamState, *, drop_consumers: bool
) -> None:
    await replace.close_intake(bus.connection, SESSIONS)
    # A new stream that an interrupted run had begun to fill has nothing that is not copied again.
    if not replace.is_refilled(existing) and await other_consumers.read_set_aside(bus.connection) is None:
        consumers = await other_consumers.behind(bus.connection)  # no events come any more
        if not drop_consumers and consumers:
            await replace.reopen_intake(bus.connection, SESSIONS)
            await database.pool.execute(_UNDO_STOP, RECREATING)
        if not drop_consumers:
            _refuse_while_behind(consumers)
        await other_consumers.set_aside(bus.connection, consumers)
    async for messages in unread_messages(bus, database):
        await replace.copy(bus.connection, messages)
    await replace.delete(bus.connection, SESSIONS.name)


async def _record_dropped(database: Database, last: int, *, certain: bool) -> Ranges:
    """Record what the stream dropped up to a position before partitions had read it, and return it.

    If it is `certain` that they have read this stream, positions that the log has are not lost.
    """
    checkpoints = await read_checkpoints(database)
    dropped = {
        number: (checkpoint.read_through + 1, last)
        for number, checkpoint in checkpoints.items()
        if checkpoint.read_through < last
    }
    behind = [f"ingest:{number}" for number in dropped]
    if certain:
        dropped = await with_unknown_positions(database, dropped)
    async with database.transaction() as connection:
        for number, (low, high) in dropped.items():
            await connection.execute(_GAP, number, low, high, DROPPED)
        await connection.execute(_SKIP_DROPPED, last, behind)
    return dropped


async def with_unknown_positions(database: Database, ranges: Ranges) -> Ranges:
    """Return the ranges of which the log does not have every position."""
    return {
        number: span for number, span in ranges.items() if await unknown_positions(database, {number: span})
    }


async def unknown_positions(database: Database, ranges: Ranges) -> int:
    """Return how many positions, from the lowest to the highest, nothing in the log has."""
    if not ranges:
        return 0
    start, end = min(low for low, _ in ranges.values()) - 1, max(high for _, high in ranges.values())
    known: int = await database.pool.fetchval(_KNOWN, list(range(PARTITIONS)), start, end)
    return end - start - known


async def _record(database: Database, stream: StreamState | None, first: int, lost: Ranges) -> None:
    if stream is None:
        raise Refused(f"The new stream {SESSIONS.name} was deleted meanwhile: run the command again.")
    async with database.transaction() as connection:
        for number, (low, high) in lost.items():
            await connection.execute(_GAP, number, low, high, REASON)
        await connection.execute(_CONTINUE, stream.created_at, first - 1)


def render_recreated(result: Recreated) -> str:
    """Return what was done and what is missing, as text."""
    last = result.first - 1
    lines = [
        f"The stream {SESSIONS.name} was created again; it starts at position {result.first}.",
        f"{result.taken_over} messages that were not in the log were taken over.",
    ]
    if result.missing:
        lines.append("These partitions may miss events at these positions, which can never be read:")
        lines += [
            f"{number:>9}  {low} to {high}  (the log has everything before {low})"
            for number, (low, high) in result.missing.items()
        ]
        lines.append(f"Together that is at most {result.most} events: {CHECKS_COUNT}.")
        lines.append("Which sessions lack any: `streams gaps`.")
    else:
        lines.append(f"The log has everything that is known to have been published up to position {last}.")
    if result.dropped:
        lines.append("These consumers were dropped, and lost the events that they had not handled:")
        lines.append(_lines(result.dropped))
        lines.append("When they are started again, they begin where a new consumer begins.")
    if last:
        lines.append(
            f"If the stream was lost, so are events after position {last} that it had acknowledged "
            "and persistence had not read; their number is not known."
        )
    return "\n".join(lines)
