"""How far views are behind the log, without reading all of it: index entries up to a limit are counted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.status.document import Lag

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

COUNTED = 10_000  # events of a view, or dead letters of a partition; more are `>10,000`

# The plan must not depend on how large the log was when it was analysed.
_INDEXES_ONLY = "set local enable_seqscan = off; set local enable_bitmapscan = off"
_LAGS = """
with positions as (
    select projection, partition::smallint as partition, coalesce(position, 0) as position
      from unnest($1::text[]) as projection
     cross join generate_series(0, $2::integer) as partition
      left join projection_checkpoints using (projection, partition)
)
select known.projection,
       (select count(*) from (
            select
              from positions as checkpoint
             cross join lateral (
                select from event_log
                 where event_log.partition = checkpoint.partition
                   and event_log.position > checkpoint.position
                 limit $3) as unfolded
             where checkpoint.projection = known.projection
             limit $3) as counted),
       (select min(at)
          from positions as checkpoint
         cross join lateral (
            select coalesce(committed_at, occurred_at) as at
              from event_log
             where event_log.partition = checkpoint.partition and event_log.position > checkpoint.position
             order by event_log.position
             limit 1) as unfolded
         where checkpoint.projection = known.projection),
       (select max(updated_at) from projection_checkpoints as checkpoint
         where checkpoint.projection = known.projection)
  from unnest($1::text[]) as known (projection)
"""


async def read_lags(
    connection: "Connection", projections: Sequence[str]
) -> dict[str, tuple[Lag, datetime | None]]:
    """Return how far each view is behind, and when a checkpoint of it last moved.

    Raises any of POSTGRES_ERRORS.
    """
    await connection.execute(_INDEXES_ONLY)
    rows = await connection.fetch(_LAGS, list(projections), PARTITIONS - 1, COUNTED + 1)
    return {
        projection: (Lag(min(count, COUNTED), count > COUNTED, age(oldest)), updated_at)
        for projection, count, oldest, updated_at in rows
    }


def age(since: datetime | None) -> float:
    """Return the seconds since a time; 0 for none, and for one that another clock puts into the future."""
    return 0.0 if since is None else max(0.0, round((datetime.now(UTC) - since).total_seconds(), 3))
