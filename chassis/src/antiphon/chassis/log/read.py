"""Read the event log from Postgres: envelopes as published, plus sequence and position of their commit."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
from msgspec import UNSET

from antiphon.chassis.database import Database, translate_errors
from antiphon.contracts.envelope import Envelope, decode_committed

PAGE_BYTES = 4 << 20  # of envelopes in one page; one that is larger is a page of its own

# `before` counts the bytes of the earlier envelopes of the page, so that the first is always read.
READ_SESSION = """
select sequence, position, envelope, before
from (
    select *, coalesce(sum(octet_length(envelope::text)) over (
        order by sequence rows between unbounded preceding and 1 preceding), 0) as before
    from (
        select sequence, position, envelope
        from event_log
        where session_id = $1 and sequence > $2 and tenant = $3
        order by sequence
        limit $4
    ) as found
) as page
where before < $5
order by sequence
"""

# Row by row, until there are enough bytes: for a few rows it reads less, for a thousand it takes four times
# as long as READ_SESSION, which measures every row that `limit` allows.
READ_STEP = """
with recursive step as (
    (
        select sequence, position, envelope, octet_length(envelope::text)::bigint as upto
        from event_log
        where session_id = $1 and sequence > $2 and tenant = $3
        order by sequence
        limit 1
    )
    union all
    select
        following.sequence,
        following.position,
        following.envelope,
        step.upto + octet_length(following.envelope::text)
    from step cross join lateral (
        select sequence, position, envelope
        from event_log
        where session_id = $1 and event_log.sequence > step.sequence and tenant = $3
        order by event_log.sequence
        limit 1
    ) as following
    where step.upto < $5
)
select sequence, position, envelope, upto from step limit $4
"""


class Page(NamedTuple):
    """Committed envelopes; `more` unless these are all: the page was limited by number or by size."""

    envelopes: list[Envelope]
    more: bool


async def read_session(database: Database, tenant: str, session_id: str, after: int, limit: int) -> Page:
    """Return a session's committed envelopes after a sequence, at most `limit` and about PAGE_BYTES.

    Raises DatabaseUnavailable.
    """
    with translate_errors():
        rows = await database.pool.fetch(READ_SESSION, session_id, after, tenant, limit, PAGE_BYTES)
    return Page(_envelopes(rows), bool(rows) and (len(rows) >= limit or _is_full(rows[-1], PAGE_BYTES)))


async def read_step(
    database: Database, tenant: str, session_id: str, after: int, limit: int, max_bytes: int
) -> Page:
    """Return the same for a small number of bytes, without reading more from the disk.

    Raises DatabaseUnavailable.
    """
    with translate_errors():
        rows = await database.pool.fetch(READ_STEP, session_id, after, tenant, limit, max_bytes)
    return Page(_envelopes(rows), bool(rows) and (len(rows) >= limit or rows[-1]["upto"] >= max_bytes))


def _is_full(newest: asyncpg.Record, limit_bytes: int) -> bool:
    return int(newest["before"]) + len(newest["envelope"].encode()) >= limit_bytes


def sequence_of(envelope: Envelope) -> int:
    """Return the sequence of a committed envelope; 0 when it carries none."""
    return 0 if envelope.sequence is UNSET else envelope.sequence


def _envelopes(rows: Sequence[asyncpg.Record]) -> list[Envelope]:
    return [decode_committed(envelope, sequence, position) for sequence, position, envelope, *_ in rows]
