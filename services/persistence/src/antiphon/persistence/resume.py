"""Let stalled views go on: with the event that stalled them, once it can be folded, or without it."""

from typing import TYPE_CHECKING

import msgspec

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.settings import PostgresSettings
from antiphon.persistence.projection.checkpoint import Stalled

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CONNECT_SECONDS = 3.0
BY_OPERATOR = "skipped by an operator before it was folded"

_STALLED = """
select partition, stalled from projection_checkpoints
 where projection = $1 and stalled is not null
 order by partition
   for update
"""
# A new epoch: the process that holds the partition reads its checkpoint again.
_RESUME = """
update projection_checkpoints
   set stalled = null, epoch = epoch + 1, position = greatest(position, $3), updated_at = now()
 where projection = $1 and partition = $2
"""
_SKIP = """
insert into projection_skips (projection, partition, position, session_id, sequence, event_id, type, error)
values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict (projection, partition, position) do nothing
"""
_EVENT = "select partition, position, event_id, type from event_log where session_id = $1 and sequence = $2"
_FOLDED = """
select position >= $3 from projection_checkpoints where projection = $1 and partition = $2 for update
"""
# A new epoch, as above: the process that holds the partition reads which events it is to skip.
_RELOAD = """
update projection_checkpoints
   set epoch = epoch + 1, updated_at = now(),
       stalled = case when (stalled ->> 'position')::bigint = $3 then null else stalled end
 where projection = $1 and partition = $2
"""


class Resumed(msgspec.Struct, frozen=True):
    """A partition of a view that goes on, and whether without the event that it was stalled at."""

    partition: int
    stalled: Stalled
    skipped: bool


async def resume(settings: PostgresSettings, projection: str, *, skip: bool) -> list[Resumed]:
    """Clear what a view is stalled at; with `skip`, record the events and go on after them.

    Exits with 1 when Postgres does not answer.
    """
    database = await _connect(settings)
    try:
        async with database.transaction() as connection:
            return await _resume(connection, projection, skip)
    finally:
        await database.close()


async def _resume(connection: "Connection", projection: str, skip: bool) -> list[Resumed]:
    resumed = []
    for partition, document in await connection.fetch(_STALLED, projection):
        stalled = msgspec.json.decode(document, type=Stalled)
        if skip:
            await connection.execute(
                _SKIP,
                projection,
                partition,
                stalled.position,
                stalled.session_id,
                stalled.sequence,
                stalled.event_id,
                stalled.type,
                stalled.error,
            )
        await connection.execute(_RESUME, projection, partition, stalled.position if skip else 0)
        resumed.append(Resumed(partition, stalled, skip))
    return resumed


async def skip_event(settings: PostgresSettings, projection: str, session_id: str, sequence: int) -> str:
    """Record that a view skips an event that it has not folded yet; return what was recorded.

    A partition that is stalled at the event goes on.

    Exits with 1 when the log has no such event, or Postgres does not answer.
    """
    database = await _connect(settings)
    try:
        async with database.transaction() as connection:
            event = await connection.fetchrow(_EVENT, session_id, sequence)
            if event is None:
                raise SystemExit(f"The log has no event {sequence} of session {session_id}.")
            partition, position, event_id, kind = event
            # Locked: until the end of the transaction the live view does not pass the event.
            folded = await connection.fetchval(_FOLDED, projection, partition, position)
            await connection.execute(
                _SKIP, projection, partition, position, session_id, sequence, event_id, kind, BY_OPERATOR
            )
            if folded is False:
                await connection.execute(_RELOAD, projection, partition, position)
    finally:
        await database.close()
    until = "from its next rebuild on: the live view has folded it" if folded else "from now on"
    return f"{projection}: skips {kind} {event_id} {until}"


async def _connect(settings: PostgresSettings) -> Database:
    try:
        return await Database.connect(
            settings.postgres_dsn,
            name="persistence resume",
            max_size=1,
            connect_timeout_seconds=CONNECT_SECONDS,
        )
    except (DatabaseRefused, DatabaseUnavailable) as error:
        raise SystemExit(str(error)) from error
