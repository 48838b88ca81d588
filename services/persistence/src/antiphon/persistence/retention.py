"""The retention of test sessions: some days after its end, one is erased from the log and from all views.

The chain of the log stays whole (`erase_session`). Sessions that are no tests are never touched. Each erasure
is on record before it is done; while records cannot be stored, none is done.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from antiphon.chassis.audit import Audit
from antiphon.chassis.database import Database, translate_errors
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.contracts.audit import Act, ActKind, Actor, AuditRecord
from antiphon.contracts.views import TEST_TERM

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 600.0  # between two looks; a tenth of the retention, if that is less
SHORTEST_PAUSE_SECONDS = 1.0
ACTOR = Actor("service:persistence")
AT_ONCE = 100  # sessions of one look; more are erased without a pause

# The term finds them by an index, and the document, which no client can write, decides. One that never ended
# is as old as its last event.
_EXPIRED = f"""
select session_id, tenant
  from sessions
 where metadata_terms @> array['{TEST_TERM}'] and details ->> 'test' = 'true'
   and coalesce(ended_at, updated_at) < now() - $1::interval
 limit $2
"""
_STILL_EXPIRED = _EXPIRED.replace(" limit $2", "   and session_id = $2\n   for update skip locked")
# An event that came after its session was erased: nothing tells any more that it was a test. A session that
# was requested again, by the same Idempotency-Key, is another one; its request is given time to come first.
_LATE = """
select erased.session_id, erased.tenant
  from erased_sessions as erased
 where exists (select from event_log where session_id = erased.session_id)
   and not exists (
       select from event_log
        where session_id = erased.session_id
          and (type = 'session.requested'
               or committed_at > now() - least($1::interval, interval '10 minutes')))
 limit $2
"""
_STILL_LATE = _LATE.replace(" limit $2", "   and erased.session_id = $2\n   for update skip locked")
# A build may have read the events already, and would bring the rows back.
_CAN_ERASE = """
select to_regclass('sessions') is not null
   and not exists (select from pg_namespace where nspname ^@ 'rebuild_')
"""
_TABLES = """
select distinct relation.relname
  from projections, unnest(tables) as named (name)
  join pg_class as relation on relation.oid = to_regclass(quote_ident(named.name))
  join pg_attribute as attribute on attribute.attrelid = relation.oid and attribute.attname = 'session_id'
 where not attribute.attisdropped
 order by relname
"""


Begun = dict[str, AuditRecord]  # by session: the records of erasures that have not succeeded yet


async def keep_erasing(
    database: Database, audit: Audit, days: float, stop: asyncio.Event, begun: Begun
) -> None:
    """Erase test sessions that ended `days` ago, until stopped. Raises DatabaseUnavailable, BusUnavailable.

    Several replicas may do it at once: each session is erased by one of them. It is called again after an
    error, with the same `begun`: a record for each try would fill the bucket, which never empties.
    """
    age = timedelta(days=days)
    pause = min(max(age.total_seconds() / 10, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
    with suppress(ShuttingDown):
        while True:
            erased = max(
                await erase_expired(database, audit, age, begun),
                await erase_late(database, audit, age, begun),
            )
            await wait_or_stop(asyncio.sleep(0 if erased == AT_ONCE else pause), stop)


async def erase_expired(database: Database, audit: Audit, age: timedelta, begun: Begun | None = None) -> int:
    """Erase at most AT_ONCE test sessions that are older than this; return how many were.

    None is while a view is built: they wait for the next look. Raises DatabaseUnavailable, BusUnavailable.
    """
    return await _erase_found(database, audit, age, begun, _EXPIRED, _STILL_EXPIRED)


async def erase_late(database: Database, audit: Audit, age: timedelta, begun: Begun | None = None) -> int:
    """Erase what came of at most AT_ONCE sessions after they were erased; return how many there were.

    It would be half a session in the views, without end. Raises DatabaseUnavailable, BusUnavailable.
    """
    return await _erase_found(database, audit, age, begun, _LATE, _STILL_LATE)


async def _erase_found(
    database: Database, audit: Audit, age: timedelta, begun: Begun | None, search: str, still: str
) -> int:
    begun = {} if begun is None else begun
    with translate_errors():
        if not await database.pool.fetchval(_CAN_ERASE):
            return 0
        found = [(row[0], row[1]) for row in await database.pool.fetch(search, age, AT_ONCE)]
    erased = 0
    for session_id, tenant in found:
        erased += await _erase(database, audit, session_id, tenant, age, begun, still)
    return erased


async def _erase(
    database: Database,
    audit: Audit,
    session_id: str,
    tenant: str,
    age: timedelta,
    begun: Begun,
    still: str,
) -> bool:
    reason = "a test session expired" if still == _STILL_EXPIRED else "events came after the erasure"
    async with database.transaction() as connection:
        if not await connection.fetchval(_CAN_ERASE):
            return False
        if await connection.fetchval(still, age, session_id) is None:
            return False  # another replica erases it, or an event has come
        record = begun.get(session_id)
        if record is None:
            act = Act(ActKind.SESSION_ERASE, tenant, ACTOR, session_id, {"reason": reason})
            if len(begun) == AT_ONCE:  # of sessions that other replicas have erased meanwhile
                begun.clear()
            begun[session_id] = record = await audit.begin(act)
        events = await connection.fetchval("select erase_session($1)", session_id)
        for (table,) in await connection.fetch(_TABLES):
            await connection.execute(f'delete from "{table}" where session_id = $1', session_id)
    await audit.end(begun.pop(session_id), "done")
    log.info("retention.test_session_erased", session_id=session_id, events=events, audit_id=record.id)
    return True
