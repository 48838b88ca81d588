"""SQL queries of the views declared in `contracts.views`; rows are returned as the JSON that clients get."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from msgspec import Struct

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
from antiphon.contracts.session import Status
from antiphon.contracts.views import STATE_COLUMNS, TEST_TERM, TurnView, session_json
from antiphon.session_api.pagination import PAGE_BYTES, PageKey
from antiphon.session_api.sessions.bounded import WHOLE_ROW, Listed, bounded, listed
from antiphon.session_api.sessions.log_end import LOG_END, LOG_END_TYPES, LogEnd, log_end_of

_STATE = ", ".join(STATE_COLUMNS)
SESSION = f"select {_STATE} from sessions where tenant = $1 and session_id = $2"

HAS_SESSION = "select true from sessions where tenant = $1 and session_id = $2"

SESSIONS = """
select created_at, {columns}
from sessions
where tenant = $1{conditions}
order by created_at desc, session_id desc
limit ${limit}
"""

# A turn that is open when its session has ended is never saved, except from the journal of a killed agent.
_TURN_STATE = """
case when state = 'open' and exists (
    select from sessions where sessions.session_id = turns.session_id and sessions.ended_at is not null
) then 'unfinished' else state end as state
"""
_TURN_COLUMNS = ", ".join(_TURN_STATE if field == "state" else field for field in TurnView.__struct_fields__)
TURNS = f"""
select first_sequence, row_to_json(row_of_turn)::text as document
from (
    select {_TURN_COLUMNS}
    from turns
    where tenant = $1 and session_id = $2 and first_sequence > $3
    order by first_sequence
    limit $4
) as row_of_turn
"""

# Each subquery ends at its first row; that of `later` looks at the rows before it.
LOG_RANGE = """
select
    (
        select sequence from event_log
        where session_id = $2 and tenant = $1
        order by sequence desc limit 1
    ) as last,
    (
        select occurred_at from event_log
        where session_id = $2 and tenant = $1
        order by sequence limit 1
    ) as first_time,
    (
        select sequence from event_log
        where session_id = $2 and tenant = $1 and $3::timestamptz is not null and occurred_at > $3
        order by sequence limit 1
    ) as later,
    (select erased_at from erased_sessions where session_id = $2 and tenant = $1) as erased_at
"""


class LogRange(Struct, frozen=True):
    """What is on record of a session: its last sequence, the time of its first event, when it was erased.

    `later` is the sequence of the first event that occurred after a time.
    """

    last: int | None
    first_time: datetime | None
    later: int | None
    erased_at: datetime | None


class SessionsFilter(Struct, frozen=True):
    """Filter of a list of sessions; all must hold. `after` is the last session of the page before.

    With `test` only the sessions that try flows, else all others. `created_after` is included and
    `created_before` is not, so that periods can follow each other; `terms` are those of `metadata_terms`.
    """

    statuses: Sequence[Status] = ()
    user_id: str | None = None
    room: str | None = None
    flow_id: str | None = None
    conversation_id: str | None = None
    reason: str | None = None
    fault: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    test: bool = False
    terms: Sequence[str] = ()
    after: PageKey | None = None


class Views:
    """Queries of sessions and turns. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def session(self, tenant: str, session_id: str) -> bytes | None:
        """Return one session as JSON, or None when it is not in the view."""
        rows = await self._fetch(SESSION, tenant, session_id)
        return session_json(rows[0]) if rows else None

    async def has_session(self, tenant: str, session_id: str) -> bool:
        """Return whether the view has a session."""
        return bool(await self._fetch(HAS_SESSION, tenant, session_id))

    async def sessions(
        self, tenant: str, wanted: SessionsFilter, limit: int
    ) -> Listed[tuple[PageKey, bytes]]:
        """Return sessions as JSON, newest first, each with its page key; fewer if they are large."""
        statement, arguments = _sessions_statement(tenant, wanted, limit + 1)
        rows = await self._fetch(bounded(statement, WHOLE_ROW, len(arguments) + 1), *arguments, PAGE_BYTES)
        return listed(
            rows, limit, lambda row: (PageKey(row["created_at"], row["session_id"]), session_json(row))
        )

    async def turns(self, tenant: str, session_id: str, after: int, limit: int) -> Listed[tuple[int, str]]:
        """Return the turns that began after a sequence, in order, each with that sequence and as JSON.

        They are fewer than `limit` if they are large.
        """
        rows = await self._fetch(
            bounded(TURNS, "document", 5), tenant, session_id, after, limit + 1, PAGE_BYTES
        )
        return listed(rows, limit, lambda row: (row["first_sequence"], row["document"]))

    async def log_end(self, tenant: str, session_id: str) -> LogEnd:
        """Return the end of what is committed of a session; that of no events for an unknown one."""
        return log_end_of((await self._fetch(LOG_END, tenant, session_id, *LOG_END_TYPES))[0])

    async def log_range(self, tenant: str, session_id: str, time: datetime | None) -> LogRange:
        """Return what is on record of a session, and its first event after a time, if one is given."""
        return LogRange(**(await self._fetch(LOG_RANGE, tenant, session_id, time))[0])

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            with translate_errors():
                return await self._database.pool.fetch(statement, *arguments)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise DatabaseUnavailable(f"the views are not migrated yet: {error}") from error


_CONDITIONS = {
    "statuses": "status = any({}::text[])",
    "user_id": "user_id = {}",
    "room": "room = {}",
    "flow_id": "flow_id = {}",
    "conversation_id": "conversation_id = {}",
    "reason": "reason = {}",
    "fault": "fault = {}",
    "created_after": "created_at >= {}",
    "created_before": "created_at < {}",
    "terms": "metadata_terms @> {}::text[]",
}


def _sessions_statement(tenant: str, wanted: SessionsFilter, limit: int) -> tuple[str, list[Any]]:
    arguments: list[Any] = [tenant]
    conditions = ""
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None and value != ():
            arguments.append(value)
            conditions += " and " + condition.format(f"${len(arguments)}")
    arguments.append([TEST_TERM])
    has_term = f"metadata_terms @> ${len(arguments)}::text[]"
    conditions += f" and {has_term}" if wanted.test else f" and ({has_term}) is not true"
    if wanted.after is not None:
        arguments += [wanted.after.created_at, wanted.after.session_id]
        conditions += f" and (created_at, session_id) < (${len(arguments) - 1}, ${len(arguments)})"
    arguments.append(limit)
    return SESSIONS.format(columns=_STATE, conditions=conditions, limit=len(arguments)), arguments
