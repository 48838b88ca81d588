"""SQL queries of the views declared in `contracts.views`; rows are returned as the JSON that clients get."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec import Struct

from antiphon.chassis.database import Database, DatabaseUnavailable, translate_errors
from antiphon.contracts.session import TERMINAL_TYPES, Status
from antiphon.contracts.views import STATE_COLUMNS, TurnView, session_json
from antiphon.session_api.pagination import PageKey

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
_TURN_COLUMNS = ", ".join(
    _TURN_STATE if field == "state" else field for field in TurnView.__struct_fields__ if field != "tenant"
)
TURNS = f"""
select first_sequence, row_to_json(page)::text as page
from (
    select {_TURN_COLUMNS}
    from turns
    where tenant = $1 and session_id = $2 and first_sequence > $3
    order by first_sequence
    limit $4
) as page
"""

ENDED_AT_SEQUENCE = """
select min(sequence)
from event_log
where tenant = $1 and session_id = $2 and type = any($3::text[])
"""


class SessionsFilter(Struct, frozen=True):
    """Filter of a list of sessions; `after` is the last session of the page before."""

    statuses: Sequence[Status] = ()
    user_id: str | None = None
    room: str | None = None
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

    async def sessions(self, tenant: str, wanted: SessionsFilter, limit: int) -> list[tuple[PageKey, bytes]]:
        """Return sessions as JSON, newest first, each with its page key."""
        statement, arguments = _sessions_statement(tenant, wanted, limit)
        rows = await self._fetch(statement, *arguments)
        return [(PageKey(row["created_at"], row["session_id"]), session_json(row)) for row in rows]

    async def turns(self, tenant: str, session_id: str, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the turns that began after a sequence, in order, each with that sequence and as JSON."""
        rows = await self._fetch(TURNS, tenant, session_id, after, limit)
        return [(row["first_sequence"], row["page"]) for row in rows]

    async def ended_at_sequence(self, tenant: str, session_id: str) -> int | None:
        """Return the sequence of the session's terminal event, or None when there is none."""
        rows = await self._fetch(ENDED_AT_SEQUENCE, tenant, session_id, sorted(TERMINAL_TYPES))
        sequence: int | None = rows[0][0]
        return sequence

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            with translate_errors():
                return await self._database.pool.fetch(statement, *arguments)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise DatabaseUnavailable(f"the views are not migrated yet: {error}") from error


def _sessions_statement(tenant: str, wanted: SessionsFilter, limit: int) -> tuple[str, list[Any]]:
    arguments: list[Any] = [tenant]
    conditions = ""
    if wanted.statuses:
        arguments.append([str(status) for status in wanted.statuses])
        conditions += f" and status = any(${len(arguments)}::text[])"
    if wanted.user_id is not None:
        arguments.append(wanted.user_id)
        conditions += f" and user_id = ${len(arguments)}"
    if wanted.room is not None:
        arguments.append(wanted.room)
        conditions += f" and room = ${len(arguments)}"
    if wanted.after is not None:
        arguments += [wanted.after.created_at, wanted.after.session_id]
        conditions += f" and (created_at, session_id) < (${len(arguments) - 1}, ${len(arguments)})"
    arguments.append(limit)
    return SESSIONS.format(columns=_STATE, conditions=conditions, limit=len(arguments)), arguments
