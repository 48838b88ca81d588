"""Find a time in the event log: the position in each partition before the first event since then."""

from datetime import datetime

from antiphon.chassis.database import Database, translate_errors
from antiphon.chassis.log.notify import ALL_PARTITIONS

# Halve the range of positions of each partition until it is empty: what is up to `low` was before the time,
# what is after `high` was not. Each step looks at one row of the index; a partition takes some 20 of them.
# Times of commit never go back within a partition. Events of before they were kept are found by when they
# occurred, which may go back: the search then ends at one of the places where the time is passed.
POSITIONS_BEFORE = """
with recursive search (partition, low, high) as (
    select number, 0::bigint,
           coalesce((select max(position) from event_log where event_log.partition = number), 0)
    from unnest($1::smallint[]) as number
    union all
    select partition,
           case when middle.at < $2::timestamptz then middle.position else low end,
           case when middle.at < $2::timestamptz then high else (low + high) / 2 end
    from search left join lateral (
        select event_log.position, coalesce(committed_at, occurred_at) as at
        from event_log
        where event_log.partition = search.partition
          and event_log.position > (low + high) / 2 and event_log.position <= high
        order by event_log.position
        limit 1
    ) as middle on true
    where low < high
)
select partition, low from search where low >= high
"""


async def positions_before(database: Database, time: datetime) -> dict[int, int]:
    """Return the last position of each partition before the first event since a time.

    Raises DatabaseUnavailable.
    """
    with translate_errors():
        rows = await database.pool.fetch(POSITIONS_BEFORE, sorted(ALL_PARTITIONS), time)
    return {row["partition"]: row["low"] for row in rows}
