"""Take a view that was built into use: in one transaction, for which writers wait, and readers do not."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import asyncpg

from antiphon.chassis.retry import retrying
from antiphon.contracts.cursor import Cursor
from antiphon.persistence.projection import Projection
from antiphon.persistence.rebuild.attached import InUse, attach, attached, check_replaceable, live_tables
from antiphon.persistence.rebuild.shadow import drop, schema_of
from antiphon.persistence.rights.secure import secure_views

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

LOCK_TIMEOUT = "2s"  # of locks behind which only other writers of the view wait
EXCLUSIVE_TIMEOUT = "150ms"  # all readers wait behind a rebuild that waits for one of them
IDLE_TIMEOUT = "5s"  # of a rebuild that hangs while readers wait for it
ATTEMPTS = 60
LONGEST_PAUSE_SECONDS = 5.0

_VERSION = "select version from public.projections where name = $1"
_POSITIONS = """
select partition, position, epoch from public.projection_checkpoints where projection = $1 for update
"""
_OLDEST = """
select application_name, pid, usename, extract(epoch from now() - xact_start)::integer as seconds
  from pg_locks join pg_stat_activity using (pid)
 where locktype = 'relation' and relation = any($1::regclass[]) and granted
   and pid <> pg_backend_pid()
   and pg_locks.database = (select oid from pg_database where datname = current_database())
 order by xact_start limit 1
"""
_CHECKPOINTS = """
insert into public.projection_checkpoints (projection, partition, position, epoch)
select projection, partition, position, $2 from {schema}.projection_checkpoints where projection = $1
"""
_REGISTER = """
insert into public.projections (name, version, tables) values ($1, $2, $3)
    on conflict (name) do update set version = excluded.version, tables = excluded.tables, built_at = now()
"""


class NewerVersion(Exception):
    """The live view was built by later code."""


async def check_live(connection: "Connection", projection: Projection, *, downgrade: bool) -> None:
    """Raise NewerVersion if later code has built the live view, unless that is to be replaced."""
    check_version(projection, await connection.fetchval(_VERSION, projection.name), downgrade)


def check_version(projection: Projection, live: int | None, downgrade: bool) -> None:
    """See check_live."""
    if live is not None and live > projection.version and not downgrade:
        raise NewerVersion(
            f"{projection.name} is live in version {live}, and this code has version {projection.version}: "
            "run this with the code of that version; or, to return to this version, stop all processes of "
            "the later code and run `rebuild` with --downgrade"
        )


class Blocked(Exception):
    """Other transactions kept using the live tables; the message names the oldest."""


async def swap(
    connection: "Connection",
    projection: Projection,
    fold_to: Callable[[Cursor], Awaitable[None]],
    on_blocked: Callable[[str], object] = lambda _: None,
    *,
    downgrade: bool = False,
) -> None:
    """Put the tables of the shadow in the place of the live ones.

    `fold_to` folds what the live view had folded and the shadow has not, so that no reader sees an older
    view. `on_blocked` gets who has the tables each time that the swap has to wait.
    Raises InUse, NewerVersion, Blocked, and any of POSTGRES_ERRORS.
    """
    holder: str | None = None

    async def attempt() -> None:
        nonlocal holder
        try:
            await _swap(connection, projection, fold_to, downgrade)
        except asyncpg.LockNotAvailableError:
            live = await live_tables(connection, projection)
            holder = _described(await connection.fetchrow(_OLDEST, live)) or holder
            on_blocked(holder or "another transaction")
            raise
        except asyncpg.DependentObjectsStillExistError as error:
            raise InUse(f"{error}: {error.detail}. Drop it, and run the rebuild again") from error

    retry = retrying(
        asyncpg.LockNotAvailableError,
        asyncpg.DeadlockDetectedError,
        attempts=ATTEMPTS,
        longest_seconds=LONGEST_PAUSE_SECONDS,
    )
    try:
        await retry(attempt)
    except asyncpg.LockNotAvailableError as error:
        raise Blocked(
            f"{projection.name} is built, and cannot be taken into use: {holder or 'another transaction'} "
            "uses its tables. Wait until that has ended, or end it with pg_terminate_backend, and run this "
            "again: it goes on from here"
        ) from error


def _described(holder: asyncpg.Record | None) -> str | None:
    if holder is None:
        return None
    name = holder["application_name"] or "a transaction"
    return f"{name} (backend {holder['pid']}, user {holder['usename']}, since {holder['seconds']} s)"


async def _swap(
    connection: "Connection",
    projection: Projection,
    fold_to: Callable[[Cursor], Awaitable[None]],
    downgrade: bool,
) -> None:
    name, schema = projection.name, schema_of(projection.name)
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        check_version(projection, await connection.fetchval(f"{_VERSION} for update", name), downgrade)
        live = await live_tables(connection, projection)
        if live:
            # Writers wait from here on, before they can lock a checkpoint; readers go on.
            await connection.execute(f"lock table {', '.join(live)} in share row exclusive mode")
        await check_replaceable(connection, live)
        rows = await connection.fetch(_POSITIONS, name)
        await fold_to(Cursor({row["partition"]: row["position"] for row in rows}))
        statements = await attached(connection, projection, live)
        await connection.execute(
            f"set local lock_timeout = '{EXCLUSIVE_TIMEOUT}';"
            f" set local idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
        )
        if live:
            await connection.execute(f"lock table {', '.join(live)} in access exclusive mode")
            await connection.execute(f"drop table {', '.join(live)}")
        for built in projection.tables:
            await connection.execute(f"alter table {schema}.{built.name} set schema public")
        await attach(connection, statements)
        # Rows are deleted and inserted, so that a claim that waits for them finds none: see checkpoint.claim.
        await connection.execute("delete from public.projection_checkpoints where projection = $1", name)
        epoch = max((row["epoch"] for row in rows), default=0) + 1
        await connection.execute(_CHECKPOINTS.format(schema=schema), name, epoch)
        await connection.execute(
            _REGISTER, name, projection.version, [table.name for table in projection.tables]
        )
        await secure_views(connection, [table.name for table in projection.tables])
        await drop(connection, name)
