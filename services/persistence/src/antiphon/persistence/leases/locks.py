"""The advisory locks of leases in Postgres: their names, who holds them, and the statements that change them.

Advisory locks belong to a database: two databases on one server do not share them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record]
    AnyConnection = Connection | PoolConnectionProxy[asyncpg.Record]

INGEST = "ingest"
CHANNEL = "antiphon_leases"  # each change is announced here, so that other replicas look at once

_KEYS = "select name, hashtextextended(name, 0) as key from unnest($1::text[]) as named (name)"
_LOOK = """
select read_only, key, pid
  from (select current_setting('transaction_read_only')::boolean as read_only) as server
  left join (
       select (classid::bigint << 32) | objid::bigint as key, pid
         from pg_locks
        where locktype = 'advisory' and granted and objsubid = 1
          and database = (select oid from pg_database where datname = current_database())
       ) as locks on key = any($1::bigint[])
"""
_CHANGE = """
select array(select pg_advisory_unlock(key) from unnest($1::bigint[]) as released (key)),
       array(select pg_advisory_unlock_shared(key) from unnest($2::bigint[]) as quit (key)),
       array(select pg_try_advisory_lock_shared(key) from unnest($3::bigint[]) as joined (key)),
       array(select key from unnest($4::bigint[]) as wanted (key) where pg_try_advisory_lock(key)) as taken,
       case when $5 then pg_notify($6, '') end
"""
_SESSIONS = "select application_name, client_addr, pid from pg_stat_activity where pid = any($1::integer[])"
_HOLDERS = """
select name, application_name, client_addr, pid
  from unnest($1::text[]) as wanted (name)
  join pg_locks on locktype = 'advisory' and granted and objsubid = 1
   and (classid::bigint << 32) | objid::bigint = hashtextextended(name, 0)
  join pg_stat_activity using (pid)
 where pg_locks.database = (select oid from pg_database where datname = current_database())
"""


def projection_group(projection: str, version: int) -> str:
    """Return the name of the group of a projection.

    Replicas of different versions do not share: those whose version is not live can do no work.
    """
    return f"projection:{projection}.v{version}"


def lease_name(group: str, partition: int) -> str:
    """Return the name of the lease of a partition."""
    return f"{group}:{partition}"


def member_name(group: str) -> str:
    """Return the name of the lock that each member of a group holds, shared."""
    return f"member:{group}"


async def sessions_with(connection: "AnyConnection", names: Sequence[str]) -> list[asyncpg.Record]:
    """Return the sessions that hold locks of these names: name, application_name, client_addr and pid."""
    return await connection.fetch(_HOLDERS, list(names))


async def holders(connection: "AnyConnection", names: Sequence[str]) -> dict[str, str]:
    """Return who holds each lease that is held: application, host and process, as Postgres sees them."""
    rows = await sessions_with(connection, names)
    return {name: _session(*row) for name, *row in rows}


class Change(NamedTuple):
    """Locks to release, memberships to quit and to begin, locks to try: their keys."""

    release: Sequence[int] = ()
    quit: Sequence[int] = ()
    join: Sequence[int] = ()
    take: Sequence[int] = ()


async def keys(connection: "Connection", names: Collection[str]) -> dict[str, int]:
    """Return the key of each lock by its name."""
    return {row["name"]: row["key"] for row in await connection.fetch(_KEYS, list(names))}


async def look(connection: "Connection", wanted: Iterable[int]) -> dict[int, list[int]]:
    """Return the backends that hold each lock that is held.

    Raises ReadOnlySQLTransactionError on a server that accepts no writes.
    """
    found: dict[int, list[int]] = {}
    for read_only, key, pid in await connection.fetch(_LOOK, list(wanted)):
        if read_only:  # a demoted primary: its locks protect nothing
            raise asyncpg.ReadOnlySQLTransactionError("the server does not accept writes")
        if key is not None:
            found.setdefault(key, []).append(pid)
    return found


async def change(connection: "Connection", changes: Change) -> list[int]:
    """Make the changes and return the keys of the locks that were taken; others hold the rest.

    Other replicas are notified, unless locks were only tried.
    """
    notify = bool(changes.release or changes.quit or changes.join)
    [row] = await connection.fetch(_CHANGE, *map(list, changes), notify, CHANNEL)
    return list(row["taken"])


async def sessions(connection: "Connection", pids: Iterable[int]) -> dict[int, str]:
    """Return who has each backend: application, host and process."""
    return {row["pid"]: _session(*row) for row in await connection.fetch(_SESSIONS, list(pids))}


def _session(application: str, address: str | None, pid: int) -> str:
    return f"{application or 'an unnamed client'} from {address or 'a local socket'} (backend {pid})"
