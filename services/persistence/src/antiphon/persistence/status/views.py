"""The progress of each view: its version, its lag, who updates it, its build, and where it is stalled."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from antiphon.chassis.database import Database
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.locks import holders, lease_name, projection_group
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.checkpoint import Stalled
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.build import builder
from antiphon.persistence.status.document import Build, StalledPartition, View
from antiphon.persistence.status.lag import read_lags

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_LIVE = "select name, version from projections order by name"
_STALLED = """
select projection, partition, stalled from projection_checkpoints where stalled is not null order by 1, 2
"""
_SKIPPED = "select projection, count(*) from projection_skips group by projection"
# By positions: those of the log are about as far apart in each partition.
_DONE = """
select coalesce(
           sum(least(built.position, checkpoint.position)) / nullif(sum(checkpoint.position), 0), 1
       )::float
  from checkpoints as checkpoint
  join {schema}.projection_checkpoints as built on checkpoint.name = 'ingest:' || built.partition
"""

_decode = msgspec.json.Decoder(Stalled).decode


async def read_views(
    connection: "Connection", projections: Sequence[Projection], builds: dict[str, Build]
) -> list[View]:
    """Return the progress of the views of this code, and of those of other code that the database has.

    Raises any of POSTGRES_ERRORS.
    """
    live = {row[0]: row[1] for row in await connection.fetch(_LIVE)}
    versions = {projection.name: projection.version for projection in projections}
    names = [*versions, *(name for name in live if name not in versions)]
    groups = {name: projection_group(name, live.get(name, versions.get(name, 1))) for name in names}
    leases = [lease_name(group, number) for group in groups.values() for number in range(PARTITIONS)]
    held = await holders(connection, leases)
    skipped = {row[0]: row[1] for row in await connection.fetch(_SKIPPED)}
    stalled: dict[str, list[StalledPartition]] = {}
    for name, partition, document in await connection.fetch(_STALLED):
        stalled.setdefault(name, []).append(StalledPartition(partition, _decode(document)))
    lags = await read_lags(connection, names)
    return [
        View(
            projection=name,
            version=versions.get(name),
            live_version=live.get(name),
            superseded=name in versions and live.get(name, 0) > versions[name],
            build=builds.get(name),
            lag=lags[name][0],
            updated_at=lags[name][1],
            holders=_holders(groups[name], held),
            stalled=stalled.get(name, []),
            skipped=skipped.get(name, 0),
        )
        for name in names
    ]


def _holders(group: str, held: dict[str, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number in range(PARTITIONS):
        if (holder := held.get(lease_name(group, number))) is not None:
            found.setdefault(holder, []).append(number)
    return found


async def read_builds(database: Database, names: Iterable[str]) -> dict[str, Build]:
    """Return the build of each view that has one that was not ended.

    Raises DatabaseUnavailable, and any of POSTGRES_ERRORS.
    """
    builds = {}
    for name in names:
        # A build that ends while it is looked at drops its schema.
        with suppress(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            async with database.transaction() as connection:
                if (found := await shadow.read(connection, name)) is not None:
                    done = await connection.fetchval(_DONE.format(schema=shadow.schema_of(name)))
                    run_by = await builder(connection, name)
                    builds[name] = Build(found.version, found.started_at, found.by, done, run_by)
    return builds
