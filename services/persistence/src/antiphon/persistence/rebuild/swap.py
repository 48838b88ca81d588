"""Take a view that was built into use: in one transaction, for which writers wait, and readers do not."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.persistence.projection import Projection
from antiphon.persistence.rebuild.shadow import drop, schema_of

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

LOCK_TIMEOUT = "2s"  # who waits for a lock makes all others wait behind it
ATTEMPTS = 60

_LIVE = "select tables from public.projections where name = $1 for update"
_POSITIONS = """
select partition, position, epoch from public.projection_checkpoints where projection = $1 for update
"""
_GRANTS = """
select relname, format('grant %s on public.%I to %s', privilege_type, relname,
              case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end)
  from pg_class, aclexplode(relacl)
 where oid = any($1::regclass[]) and grantee <> relowner
"""
_DEPENDENTS = """
select distinct dependent.oid::regclass::text
  from pg_depend
  join pg_rewrite on pg_rewrite.oid = objid
  join pg_class as dependent on dependent.oid = ev_class
 where refobjid = any($1::regclass[]) and dependent.oid <> refobjid
"""
_CHECKPOINTS = """
insert into public.projection_checkpoints (projection, partition, position, epoch)
select projection, partition, position, $2 from {schema}.projection_checkpoints where projection = $1
"""
_REGISTER = """
insert into public.projections (name, version, tables) values ($1, $2, $3)
    on conflict (name) do update set version = excluded.version, tables = excluded.tables, built_at = now()
"""


class InUse(Exception):
    """Something that is not ours depends on a table of the view; the message says what."""


async def swap(
    connection: "Connection", projection: Projection, fold_to: Callable[[Cursor], Awaitable[None]]
) -> None:
    """Put the tables of the shadow in the place of the live ones.

    `fold_to` folds what the live view had folded and the shadow has not, so that no reader sees an older
    view. Raises InUse, and any of POSTGRES_ERRORS.
    """
    retry = retrying(
        asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, attempts=ATTEMPTS, longest_seconds=1.0
    )
    await retry(_swap, connection, projection, fold_to)


async def _swap(
    connection: "Connection", projection: Projection, fold_to: Callable[[Cursor], Awaitable[None]]
) -> None:
    name, schema = projection.name, schema_of(projection.name)
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        tables: list[str] = await connection.fetchval(_LIVE, name) or []
        live = [f"public.{table}" for table in tables]
        if dependents := await connection.fetch(_DEPENDENTS, live):
            names = ", ".join(row[0] for row in dependents)
            raise InUse(
                f"{names} depends on {', '.join(tables)}, which a rebuild replaces: drop it, and create it "
                "again after the rebuild"
            )
        built_tables = [table.name for table in projection.tables]
        grants = await connection.fetch(_GRANTS, live)
        if live:
            # Writers wait from here on, before they can lock a checkpoint; readers go on.
            await connection.execute(f"lock table {', '.join(live)} in share row exclusive mode")
        rows = await connection.fetch(_POSITIONS, name)
        await fold_to(Cursor({row["partition"]: row["position"] for row in rows}))
        for replaced in live:
            await connection.execute(f"drop table {replaced}")
        for built in built_tables:
            await connection.execute(f"alter table {schema}.{built} set schema public")
        for table, grant in grants:
            if table in built_tables:
                await connection.execute(grant)
        # Rows are deleted and inserted, so that a claim that waits for them finds none: see checkpoint.claim.
        await connection.execute("delete from public.projection_checkpoints where projection = $1", name)
        epoch = max((row["epoch"] for row in rows), default=0) + 1
        await connection.execute(_CHECKPOINTS.format(schema=schema), name, epoch)
        await connection.execute(
            _REGISTER, name, projection.version, [table.name for table in projection.tables]
        )
        await drop(connection, name)
