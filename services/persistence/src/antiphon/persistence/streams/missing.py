"""What the known gaps took: how many events at most, and of which sessions, as far as the log can tell."""

from datetime import datetime

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.sql import read_sql
from antiphon.persistence.streams.recreate import CHECKS_COUNT
from antiphon.persistence.streams.status import READ_GAPS, Gap

READ_SECONDS = 3600.0  # a partition of the log, from its start

_SESSIONS = read_sql("antiphon.persistence.streams", "missing.sql")
# Events, and dead letters, that have a position of the gap: of other partitions too.
_KNOWN = """
select count(distinct position)
  from (select position from event_log
         where partition = any($1::smallint[]) and position between $2 and $3
         union all
        select position from dead_letters
         where partition = any($1::smallint[]) and position between $2 and $3) as known
"""


class Affected(msgspec.Struct, frozen=True):
    """A session that a gap may have taken events of, and how the log shows it.

    `missing` numbers of its agent are not there; `unfinished` sessions had not ended when the gap began; of
    `headless` ones, the request is missing.
    """

    session_id: str
    tenant: str
    missing: int
    unfinished: bool
    headless: bool


class Missing(msgspec.Struct):
    """A gap, how many of its positions nothing in the log has, and the sessions."""

    partition: int
    first: int
    last: int
    reason: str
    noticed_at: datetime
    most: int
    sessions: list[Affected]


async def read_missing(_: Bus, database: Database) -> list[Missing]:
    """Return what each known gap took. Raises any of POSTGRES_ERRORS."""
    gaps = [Gap(*row) for row in await database.pool.fetch(READ_GAPS)]
    return [await _missing(database, gap) for gap in gaps]


async def _missing(database: Database, gap: Gap) -> Missing:
    async with database.transaction() as connection:
        await connection.execute(f"set local statement_timeout = {READ_SECONDS * 1000:.0f}")
        known = await connection.fetchval(
            _KNOWN, list(range(PARTITIONS)), gap.first, gap.last, timeout=READ_SECONDS
        )
        rows = await connection.fetch(_SESSIONS, gap.partition, gap.first, gap.last, timeout=READ_SECONDS)
    most = gap.last - gap.first + 1 - known
    affected = [Affected(*row) for row in rows]
    if most == 0:  # a session that only had not ended lacks nothing
        affected = [each for each in affected if each.missing or each.headless]
    return Missing(
        gap.partition,
        gap.first,
        gap.last,
        gap.reason,
        gap.noticed_at,
        most,
        affected,
    )


def render_missing(found: list[Missing]) -> str:
    """Return the gaps and their sessions as text."""
    if not found:
        return "No gap is known."
    lines = []
    for gap in found:
        lines.append(
            f"partition {gap.partition}, positions {gap.first} to {gap.last}: at most {gap.most} events "
            f"({gap.reason}; noticed at {gap.noticed_at:%Y-%m-%d %H:%M:%S} UTC)"
        )
        lines += [f"  {each.session_id} of {each.tenant}: {_how(each)}" for each in gap.sessions]
        if not gap.sessions:
            lines.append("  no session of the log shows a gap")
    lines.append(
        "Positions count for all partitions: the events of the gaps together are at most the largest."
    )
    lines.append(f"{CHECKS_COUNT.capitalize()}.")
    lines.append("Sessions of which the log has no event at all cannot be named.")
    return "\n".join(lines)


def _how(session: Affected) -> str:
    found = []
    if session.missing:
        found.append(f"{session.missing} events of its agent are missing")
    if session.headless:
        found.append("its request is missing")
    if session.unfinished:
        found.append("it had not ended when the gap began")
    return ", ".join(found)
