"""The status: progress of ingest per partition and of each projection, dead letters, gaps of the log."""

from datetime import datetime

import msgspec

from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.nats_access import NatsAccess
from antiphon.contracts.ids import TENANT_PATTERN
from antiphon.contracts.subjects import PARTITIONS, partition_filter
from antiphon.persistence.leases.locks import INGEST, holders, lease_name, projection_group
from antiphon.persistence.migrations import current, head
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.settings import StatusSettings
from antiphon.persistence.streams.status import READ_GAPS, Gap, render_gaps

CONNECT_SECONDS = 3.0
_GROUPS = {each.name: projection_group(each.name, each.version) for each in PROJECTIONS}
NOBODY = "nobody"

_PARTITIONS = """
select partition,
       coalesce(checkpoint.position, 0),
       coalesce(checkpoint.epoch, 0),
       checkpoint.updated_at,
       checkpoint.stopped
  from generate_series(0, $1::integer) as partition
  left join checkpoints as checkpoint on checkpoint.name = 'ingest:' || partition
 order by partition
"""
# How many events each projection is behind; all of the log for one that never ran.
_PROJECTIONS = """
select projection,
       (select count(*)
          from event_log
          left join projection_checkpoints as checkpoint
            on checkpoint.projection = known.projection and checkpoint.partition = event_log.partition
         where event_log.position > coalesce(checkpoint.position, 0)),
       (select max(updated_at)
          from projection_checkpoints as checkpoint
         where checkpoint.projection = known.projection)
  from unnest($1::text[]) as known (projection)
"""
_DEAD_LETTERS = """
select count(*), max(recorded_at) as newest_at, (array_agg(error order by id desc))[1] as newest_error
  from dead_letters
"""
_DEAD_LETTERS_BY_TENANT = """
select case when subject ~ $1 then split_part(subject, '.', 3) else 'unknown' end as tenant, count(*)
  from dead_letters
 group by tenant
 order by count(*) desc, tenant
 limit 20
"""
_TENANT_SUBJECT = rf"^sessions\.[0-9]+\.{TENANT_PATTERN.strip('^$')}\."


class Partition(msgspec.Struct):
    """The progress of ingest; `head` is the newest position on the stream, None without NATS."""

    partition: int
    checkpoint: int
    head: int | None
    caught_up: bool | None
    epoch: int
    updated_at: datetime | None
    holder: str | None  # the replica that ingests it: its connection
    stopped: str | None  # why, if an operator must act


class View(msgspec.Struct):
    """The progress of a projection: how many events of the log it has not folded yet."""

    projection: str
    events_behind: int
    updated_at: datetime | None
    holder: str | None


class DeadLetters(msgspec.Struct):
    """The number of dead letters, and the newest."""

    count: int
    newest_at: datetime | None
    newest_error: str | None
    by_tenant: dict[str, int]  # the 20 tenants with most


class Status(msgspec.Struct):
    """The status of persistence."""

    schema_revision: str | None
    schema_needed: str
    partitions: list[Partition]
    projections: list[View]
    dead_letters: DeadLetters
    gaps: list[Gap]

    def to_json(self) -> str:
        """Return the status as JSON."""
        return msgspec.json.encode(self).decode()


async def read_status(settings: StatusSettings) -> Status:
    """Read the status; without NATS, only the part in Postgres.

    Exits with 1 when Postgres does not answer or has no schema.
    """
    heads = await _heads(settings.nats)
    try:
        database = await Database.connect(
            settings.postgres_dsn,
            name="persistence status",
            max_size=1,
            connect_timeout_seconds=CONNECT_SECONDS,
            statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
        )
    except (DatabaseRefused, DatabaseUnavailable) as error:
        raise SystemExit(str(error)) from error
    try:
        return await _read(database, heads)
    finally:
        await database.close()


async def _read(database: Database, heads: dict[int, int] | None) -> Status:
    async with database.transaction() as connection:
        revision = await current(connection)
        if revision is None:
            raise SystemExit("The database has no schema yet: run `python -m antiphon.persistence migrate`.")
        ingest = await connection.fetch(_PARTITIONS, PARTITIONS - 1)
        views = await connection.fetch(_PROJECTIONS, [projection.name for projection in PROJECTIONS])
        [dead] = await connection.fetch(_DEAD_LETTERS)
        by_tenant = await connection.fetch(_DEAD_LETTERS_BY_TENANT, _TENANT_SUBJECT)
        leases = [lease_name(INGEST, number) for number in range(PARTITIONS)]
        leases += [lease_name(group, number) for group in _GROUPS.values() for number in range(PARTITIONS)]
        held = await holders(connection, leases)
        gaps = await connection.fetch(READ_GAPS)
    return Status(
        revision,
        head(),
        [_partition(heads, held, *row) for row in ingest],
        [View(name, behind, updated_at, _holders_of(name, held)) for name, behind, updated_at in views],
        DeadLetters(
            dead["count"],
            dead["newest_at"],
            dead["newest_error"],
            {row["tenant"]: row["count"] for row in by_tenant},
        ),
        [Gap(*row) for row in gaps],
    )


def _holders_of(projection: str, held: dict[str, str]) -> str | None:
    """Return the replicas that hold partitions of a projection."""
    found = {held.get(lease_name(_GROUPS[projection], number)) for number in range(PARTITIONS)}
    return ", ".join(sorted(filter(None, found))) or None


def _partition(
    heads: dict[int, int] | None,
    held: dict[str, str],
    number: int,
    checkpoint: int,
    epoch: int,
    updated_at: datetime | None,
    stopped: str | None,
) -> Partition:
    newest = None if heads is None else heads.get(number, 0)
    caught_up = None if newest is None else checkpoint >= newest
    holder = held.get(lease_name(INGEST, number))
    return Partition(number, checkpoint, newest, caught_up, epoch, updated_at, holder, stopped)


async def _heads(access: NatsAccess) -> dict[int, int] | None:
    try:
        bus = await Bus.connect(access, name="persistence status", connect_timeout_seconds=CONNECT_SECONDS)
    except BusError:
        return None
    try:
        newest = {partition: await bus.last(partition_filter(partition)) for partition in range(PARTITIONS)}
    except BusError:
        return None
    finally:
        await bus.close()
    return {partition: message.position for partition, message in newest.items() if message}


def render(status: Status) -> str:
    """Return the status as text."""
    lines = [f"schema      revision {status.schema_revision}, needed {status.schema_needed}", ""]
    lines.append(f"{'partition':>9}  {'checkpoint':>12}  {'stream head':>12}  {'epoch':>6}  held by")
    for partition in status.partitions:
        newest = "NATS is down" if partition.head is None else str(partition.head)
        mark = "  behind" if partition.caught_up is False else ""
        mark = f"  stopped: {partition.stopped}" if partition.stopped else mark
        lines.append(
            f"{partition.partition:>9}  {partition.checkpoint:>12}  {newest:>12}  {partition.epoch:>6}"
            f"  {partition.holder or NOBODY}{mark}"
        )
    lines.append("")
    lines += [
        f"projection  {view.projection}: {view.events_behind} events behind, held by {view.holder or NOBODY}"
        for view in status.projections
    ]
    dead = status.dead_letters
    newest_letter = f", the newest at {dead.newest_at}: {dead.newest_error}" if dead.count else ""
    lines.append(f"dead letters {dead.count}{newest_letter}")
    lines += [f"             {count} of tenant {tenant}" for tenant, count in dead.by_tenant.items()]
    return "\n".join([*lines, *render_gaps(status.gaps)])
