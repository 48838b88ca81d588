"""Read partitions of the event log from Postgres: the rows of a filter, and how far they were looked for."""

from collections.abc import Collection, Mapping
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import asyncpg

from antiphon.chassis.database import Database, translate_errors
from antiphon.chassis.log.read import PAGE_BYTES
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope, decode_committed

SCAN = 20_000  # events that one statement looks at, in all partitions: far from the time limit of statements

# The newest position of each partition: of an event, or of what ingest read last, which may be no event. A
# partition has one writer, which commits in the order of positions: what is up to the head is final.
_PLACES = """
select partition, after, least(until, greatest(
        after,
        (select max(event_log.position) from event_log where event_log.partition = given.partition),
        (select checkpoints.position from checkpoints where name = 'ingest:' || given.partition)
    )) as head
from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as given (partition, after, until)
"""

# One index range per partition, each limited, so that no partition can starve another. `before` counts the
# bytes of the earlier envelopes of the partition, so that the first is always read. A partition without rows
# has one without envelope. `bound` is how far a partition was looked through.
#
# The planner must go along an index in the order of positions, and stop at the limit: so the limit comes
# first, and what the head or the types leave out is dropped from its rows. With both ends of the range beside
# the limit, or a limit that it knows to be more than the rows it expects, it sorts all of a partition for
# each page; so it does not know the limit either: of one that it must compute first it expects a tenth.
_READ = """
with place as materialized ({places}), scan as materialized (select place.*, {bound} as bound from place)
select found.sequence, found.position, found.envelope, found.before, scan.partition, scan.bound, scan.head
from scan left join lateral (
    select sequence, position, envelope, coalesce(sum(octet_length(envelope::text)) over (
        order by position rows between unbounded preceding and 1 preceding), 0) as before
    from (
        select sequence, position, envelope
        from (
            select sequence, position, envelope, type
            from event_log
            where event_log.partition = scan.partition and event_log.position > scan.after{of_tenant}
            order by event_log.position
            limit (select {scanned}::bigint)
        ) as scanned
        where position <= scan.bound{of_types}
        order by position
        limit $4
    ) as limited
) as found on found.before < $5
"""
_BOUND = """least(place.head, (
    select event_log.position from event_log
    where event_log.partition = place.partition and event_log.position > place.after{of_tenant}
    order by event_log.position offset (select $6::bigint) - 1 limit 1
))"""

_SEQUENCE, _POSITION, _ENVELOPE, _BEFORE, _PARTITION, _BOUND_AT, _HEAD = range(7)
_partition = itemgetter(_PARTITION)
_place = itemgetter(_PARTITION, _POSITION)


class Filter(NamedTuple):
    """Which events are read; None is all."""

    types: tuple[str, ...] | None = None
    tenant: str | None = None


EVERYTHING = Filter()


class PartitionsPage(NamedTuple):
    """Committed envelopes of several partitions, where each was read to, and which of these hold more."""

    envelopes: list[Envelope]
    reached: dict[int, int]
    unfinished: set[int]


async def read_partitions(
    database: Database,
    after: Mapping[int, int],
    limit: int,
    *,
    until: Cursor | None = None,
    filter_: Filter = EVERYTHING,
) -> PartitionsPage:
    """Return what was committed after a position in each partition, in order, up to `until` if given.

    At most `limit` per partition, and about PAGE_BYTES in all. Raises DatabaseUnavailable.
    """
    share = PAGE_BYTES // max(1, len(after))
    arguments: list[object] = [*_places(after, until), limit, share]
    if filter_.types is not None:
        arguments += [max(limit, SCAN // max(1, len(after))), filter_.types]
    if filter_.tenant is not None:
        arguments += [filter_.tenant]
    with translate_errors():
        rows = await database.pool.fetch(
            _statement(tenant=filter_.tenant is not None, types=filter_.types is not None), *arguments
        )
    return _page(rows, limit, share)


async def heads(database: Database, partitions: Collection[int]) -> dict[int, int]:
    """Return the newest position of each partition, in one snapshot. Raises DatabaseUnavailable."""
    with translate_errors():
        rows = await database.pool.fetch(_PLACES, *_places(dict.fromkeys(partitions, 0), None))
    return {row["partition"]: row["head"] for row in rows}


def _places(after: Mapping[int, int], until: Cursor | None) -> tuple[object, object, object]:
    ends = [None] * len(after) if until is None else [until.after(partition) for partition in after]
    return [*after], [*after.values()], ends


@cache
def _statement(*, tenant: bool, types: bool) -> str:
    parts = {
        "of_tenant": f" and event_log.tenant = ${8 if types else 6}" if tenant else "",
        "of_types": " and type = any($7::text[])" if types else "",
        "scanned": "$6" if types else "$4",
    }
    bound = _BOUND.format(**parts) if types else "place.head"
    return _READ.format(places=_PLACES, bound=bound, **parts)


def _page(rows: list[asyncpg.Record], limit: int, share: int) -> PartitionsPage:
    # Postgres returns them in this order, as it reads one partition after the other, but need not. To sort
    # here what is in order is cheap; there it would be done on disk, with the envelopes.
    rows.sort(key=_place)
    envelopes: list[Envelope] = []
    reached: dict[int, int] = {}
    unfinished: set[int] = set()
    for partition, rows_of_partition in groupby(rows, key=_partition):
        before = len(envelopes)
        for row in rows_of_partition:
            if (envelope := row[_ENVELOPE]) is not None:
                envelopes.append(decode_committed(envelope, row[_SEQUENCE], row[_POSITION]))
        cut = len(envelopes) - before >= limit or _is_full(row, share)
        reached[partition] = row[_POSITION] if cut else row[_BOUND_AT]
        if cut or row[_BOUND_AT] < row[_HEAD]:
            unfinished.add(partition)
    return PartitionsPage(envelopes, reached, unfinished)


def _is_full(newest: asyncpg.Record, share: int) -> bool:
    envelope = newest[_ENVELOPE]
    return envelope is not None and int(newest[_BEFORE]) + len(envelope.encode()) >= share
