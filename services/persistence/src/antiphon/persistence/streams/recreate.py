"""Make the stream of events again, after everything that the log has; keep what nobody has read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from antiphon.chassis.bus import Bus, StreamState, replace
from antiphon.chassis.database import Database
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.ingest.checkpoint import Checkpoint
from antiphon.persistence.streams.status import problem_of, read_checkpoints
from antiphon.persistence.streams.unread import unread_messages

RECREATING = "the stream is being recreated; if that was interrupted, run `streams recreate` again"
REASON = "the stream was recreated: what it held here and the log does not is lost"

# The higher epoch fences running commits: from now on no checkpoint changes.
_STOP_ALL = """
insert into checkpoints (name, epoch, stopped)
select 'ingest:' || number, 1, $2::text from generate_series(0, $1::integer) as number
    on conflict (name) do update
   set epoch = checkpoints.epoch + 1, stopped = coalesce(checkpoints.stopped, excluded.stopped)
"""
_CONTINUE = """
update checkpoints
   set epoch = epoch + 1, stopped = null, stream_created_at = $1, read_through = $2, updated_at = now()
 where name like 'ingest:%'
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


class Recreated(Struct):
    """The new stream: its first position, the messages taken over, and what can never be read.

    `missing` maps a partition to the positions (first, last) among which its lost events were, if any;
    `most` is the number of positions in all these ranges that nothing in the log has.
    """

    first: int
    taken_over: int
    missing: dict[int, tuple[int, int]]
    most: int


async def recreate(bus: Bus, database: Database, *, replace_existing: bool) -> Recreated:
    """Replace the stream by one that starts after the highest checkpoint, and let the partitions continue.

    Messages of an existing stream that are not in the log are taken over, in order. Publishers wait
    meanwhile. An interrupted run is completed by the next one.
    Raises Refused, and the errors of the bus and of Postgres.
    """
    async with _alone(database):
        existing = await bus.stream_state()
        stopped = {
            number: checkpoint
            for number, checkpoint in (await read_checkpoints(database)).items()
            if checkpoint.stopped not in (None, RECREATING) or await problem_of(bus, checkpoint)
        }
        if existing is not None and not _interrupted(existing) and not replace_existing:
            raise Refused(_why_not(existing, list(stopped)))
        await database.pool.execute(_STOP_ALL, PARTITIONS - 1, RECREATING)
        checkpoints = await read_checkpoints(database)
        first = 1 + max(checkpoint.read_through for checkpoint in checkpoints.values())
        if existing is not None:
            await _set_unread_aside(bus, database)
        await replace.create_closed(bus.connection, SESSIONS, first)
        taken_over = await replace.refill(bus.connection)
        changed = {number: checkpoints[number] for number in stopped}
        replaced = existing is not None
        result = await _what_is_missing(database, first, taken_over, changed, replaced=replaced)
        await _record(database, await bus.stream_state(), result)
        await replace.open_intake(bus.connection, SESSIONS)
        await replace.delete(bus.connection, replace.UNREAD)
        return result


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    async with database.pool.acquire() as connection:
        if not await connection.fetchval(_LOCK):
            raise Refused("The stream is being recreated by another process.")
        try:
            yield
        finally:
            await connection.execute(_UNLOCK)


def _interrupted(existing: StreamState) -> bool:
    return existing.subjects != SESSIONS.subjects


def _why_not(existing: StreamState, stopped: list[int]) -> str:
    about = f"The stream {SESSIONS.name} exists, with positions {existing.first} to {existing.last}"
    if not stopped:
        return f"{about}, and it is the one that was read: there is nothing to recreate."
    return (
        f"{about}; partitions {', '.join(map(str, stopped))} cannot continue with it. To delete it and "
        "create it again, add --replace: its messages that are not in the log are taken over."
    )


async def _set_unread_aside(bus: Bus, database: Database) -> None:
    await replace.close_intake(bus.connection, SESSIONS)
    async for messages in unread_messages(bus, database):
        await replace.copy(bus.connection, messages)
    await replace.delete(bus.connection, SESSIONS.name)


async def _what_is_missing(
    database: Database, first: int, taken_over: int, changed: dict[int, Checkpoint], *, replaced: bool
) -> Recreated:
    missing = {
        number: (checkpoint.read_through + 1, first - 1)
        for number, checkpoint in changed.items()
        if checkpoint.read_through < first - 1
    }
    if not missing:
        return Recreated(first, taken_over, missing, 0)
    start = min(low for low, _ in missing.values()) - 1
    known = await database.pool.fetchval(_KNOWN, list(range(PARTITIONS)), start, first - 1)
    most = first - 1 - start - known
    # A partition that went on with another stream may have positions of that one: it proves nothing then.
    if most == 0 and not replaced:
        missing = {}
    return Recreated(first, taken_over, missing, most)


async def _record(database: Database, stream: StreamState | None, result: Recreated) -> None:
    if stream is None:
        raise Refused(f"The new stream {SESSIONS.name} was deleted meanwhile: run the command again.")
    async with database.transaction() as connection:
        for number, (low, high) in result.missing.items():
            await connection.execute(_GAP, number, low, high, REASON)
        await connection.execute(_CONTINUE, stream.created_at, result.first - 1)


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
        lines.append(f"Together that is at most {result.most} events.")
    else:
        lines.append(f"The log has everything that is known to have been published up to position {last}.")
    if last:
        lines.append(
            f"If the stream was lost, so are events after position {last} that it had acknowledged "
            "and persistence had not read; their number is not known."
        )
    return "\n".join(lines)
