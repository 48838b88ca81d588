"""Read the event log from Postgres: envelopes as published, plus sequence and position of their commit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import asyncpg
from msgspec import UNSET

from antiphon.chassis.database import Database, translate_errors
from antiphon.contracts.envelope import Envelope, committed, decode

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

# One index range per partition, each limited, so that no partition can starve another.
READ_PARTITIONS = """
select found.sequence, found.position, found.envelope, found.before, found.partition
from unnest($1::smallint[], $2::bigint[]) as place (partition, position)
cross join lateral (
    select *, coalesce(sum(octet_length(envelope::text)) over (
        order by position rows between unbounded preceding and 1 preceding), 0) as before
    from (
        select partition, sequence, position, envelope
        from event_log
        where event_log.partition = place.partition and event_log.position > place.position
        order by event_log.position
        limit $3
    ) as limited
) as found
where found.before < $4
order by found.partition, found.position
"""


PARTITION = 4  # its column: by number, which is faster than by name


class Page(NamedTuple):
    """Committed envelopes; `more` unless these are all: the page was limited by number or by size."""

    envelopes: list[Envelope]
    more: bool


class PartitionsPage(NamedTuple):
    """Committed envelopes of several partitions, and which of these may hold more."""

    envelopes: list[Envelope]
    unfinished: set[int]


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


async def read_partitions(database: Database, after: Mapping[int, int], limit: int) -> PartitionsPage:
    """Return what was committed after a position in each partition, in order.

    At most `limit` per partition, and about PAGE_BYTES in all. Raises DatabaseUnavailable.
    """
    share = PAGE_BYTES // max(1, len(after))
    with translate_errors():
        rows = await database.pool.fetch(READ_PARTITIONS, [*after], [*after.values()], limit, share)
    newest = {row[PARTITION]: row for row in rows}
    counts = Counter(map(itemgetter(PARTITION), rows))
    unfinished = {p for p, row in newest.items() if counts[p] >= limit or _is_full(row, share)}
    return PartitionsPage(_envelopes(rows), unfinished)


def _is_full(newest: asyncpg.Record, limit_bytes: int) -> bool:
    return int(newest["before"]) + len(newest["envelope"].encode()) >= limit_bytes


def sequence_of(envelope: Envelope) -> int:
    """Return the sequence of a committed envelope; 0 when it carries none."""
    return 0 if envelope.sequence is UNSET else envelope.sequence


def _envelopes(rows: Sequence[asyncpg.Record]) -> list[Envelope]:
    return [committed(decode(envelope), sequence, position) for sequence, position, envelope, *_ in rows]
