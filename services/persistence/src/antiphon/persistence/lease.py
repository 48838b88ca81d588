"""Leases by Postgres advisory lock: one replica does a piece of work, the others wait to take over.

Leases are advisory, the epoch fences: each transaction checks the epoch and the checkpoint, which excludes a
second writer. A lease lasts as long as its connection, which a heartbeat keeps in use: Postgres ends the
session of a replica that hangs or is cut off, and its leases go to the others.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import structlog

from antiphon.chassis.background import end_task
from antiphon.chassis.postgres import connect
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.persistence.errors import POSTGRES_ERRORS, Fenced, NotReady
from antiphon.persistence.readiness import STARTING, ReadinessCheck

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5  # between heartbeats, each of which tries the leases that another replica holds
FINISH_SECONDS = 5.0  # for the current batch, when the lease is lost or the process stops
CANCEL_ATTEMPTS = 5  # then, a second each
SESSION_SECONDS = 4.0  # without a heartbeat, then Postgres ends the session

_TRY_LOCK = """
select current_setting('transaction_read_only')::boolean as read_only,
       array(select name from unnest($1::text[]) as wanted (name)
              where pg_try_advisory_lock(hashtextextended(name, 0))) as locked
"""
_UNLOCK = "select pg_advisory_unlock(hashtextextended(name, 0)) from unnest($1::text[]) as released (name)"
_HOLDERS = """
select name, application_name, client_addr, pid
  from unnest($1::text[]) as wanted (name)
  join pg_locks on locktype = 'advisory' and granted and objsubid = 1
   and (classid::bigint << 32) | objid::bigint = hashtextextended(name, 0)
  join pg_stat_activity using (pid)
 where pg_locks.database = (select oid from pg_database where datname = current_database())
"""

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record]
    AnyConnection = Connection | PoolConnectionProxy[asyncpg.Record]


def ingest_lease(partition: int) -> str:
    """Return the name of the lease of a partition's ingest."""
    return f"ingest:{partition}"


def projection_lease(projection: str, partition: int) -> str:
    """Return the name of the lease of one partition of a projection."""
    return f"projection:{projection}:{partition}"


async def holders(connection: "AnyConnection", names: Sequence[str]) -> dict[str, str]:
    """Return who holds each lease that is held: application, host and process, as Postgres sees them."""
    rows = await connection.fetch(_HOLDERS, list(names))
    return {
        name: f"{application or 'an unnamed client'} from {address or 'a local socket'} (backend {pid})"
        for name, application, address, pid in rows
    }


class Lease:
    """An advisory lease on a piece of work; leases are advisory, the epoch fences."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tried = asyncio.Event()  # at least once: if it is not held now, another replica may have it
        self.held = asyncio.Event()
        self.lost = asyncio.Event()


class Leases:
    """All leases of this process, on one connection of their own; when it breaks, all are lost."""

    def __init__(self, dsn: str, *, session_seconds: float = SESSION_SECONDS) -> None:
        self._dsn = dsn
        self._session_seconds = session_seconds
        self._waiting: list[Lease] = []
        self._held: list[Lease] = []
        self._released: list[str] = []
        self._holders: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._failure: str | None = STARTING

    def acquire(self, name: str) -> Lease:
        """Queue for a lease and return it at once; its `held` event is set when this process has it."""
        lease = Lease(name)
        self._waiting.append(lease)
        self._changed.set()
        return lease

    def release(self, lease: Lease) -> None:
        """Release a lease, or leave the queue for it."""
        if lease in self._waiting:
            self._waiting.remove(lease)
        if lease in self._held:
            self._held.remove(lease)
            self._released.append(lease.name)
            self._changed.set()

    async def check(self) -> str:
        """Return which leases this process holds, and who holds those that it waits for.

        Raises NotReady while there is no connection.
        """
        if self._failure is not None:
            raise NotReady(f"the connection of the leases {self._failure}")
        waited: dict[str, list[str]] = {}
        for lease in self._waiting:
            waited.setdefault(self._holders.get(lease.name, "nobody yet"), []).append(lease.name)
        parts = [f"holds {_list(lease.name for lease in self._held)}"]
        parts += [f"waits for {_list(names)}, held by {holder}" for holder, names in sorted(waited.items())]
        return "; ".join(parts)

    async def run(self) -> None:
        """Hold the connection and the leases until cancelled."""
        await retrying(*POSTGRES_ERRORS, longest_seconds=POLL_SECONDS)(self._hold_connection)

    async def _hold_connection(self) -> None:
        connection = None
        try:
            connection = await self._connect()
            self._released.clear()
            while True:
                self._changed.clear()
                await self._heartbeat(connection)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()
        except POSTGRES_ERRORS as error:
            if self._failure in (None, STARTING):
                log.warning("leases.connection_lost", error=repr(error))
            self._failure = f"is lost: {error!r}"
            raise
        finally:
            if connection is not None:
                connection.terminate()  # releases every lock at once
            self._lose_all()

    async def _connect(self) -> "Connection":
        connection = await connect(
            self._dsn,
            name=f"persistence leases {socket.gethostname()}:{os.getpid()}",
            # A replica that is cut off gives its leases up before Postgres gives them to another.
            statement_seconds=self._session_seconds / 2,
            client_margin_seconds=0.0,
            idle_session_timeout=str(int(self._session_seconds * 1000)),
        )
        connection.add_termination_listener(lambda _: self._changed.set())
        return connection

    async def _heartbeat(self, connection: "Connection") -> None:
        names, self._released = self._released, []
        if names:
            await connection.execute(_UNLOCK, names)
        await self._try_waiting(connection)
        waiting = [lease.name for lease in self._waiting]
        self._holders = await holders(connection, waiting) if waiting else {}
        if self._failure not in (None, STARTING):
            log.info("leases.connection_restored")
        self._failure = None

    async def _try_waiting(self, connection: "Connection") -> None:
        tried = list(self._waiting)
        [(read_only, locked)] = await connection.fetch(_TRY_LOCK, [lease.name for lease in tried])
        if read_only:  # a demoted primary: its locks protect nothing
            raise asyncpg.ReadOnlySQLTransactionError("the server does not accept writes")
        for lease in tried:
            lease.tried.set()
            if lease.name not in locked:
                continue
            if lease in self._waiting:
                self._waiting.remove(lease)
                self._held.append(lease)
                lease.held.set()
            else:  # released while we tried
                self._released.append(lease.name)

    def _lose_all(self) -> None:
        lost, self._held = self._held, []
        for lease in lost:
            lease.lost.set()


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


Run = Callable[[asyncio.Event], Awaitable[None]]  # works until the event is set


async def run_while_leased(
    leases: Leases, name: str, run: Run, readiness: ReadinessCheck, stop: asyncio.Event
) -> None:
    """Call `run` while this process holds the lease, again after each loss, until stopped.

    `run` gets an event of its own, set when the lease is lost or `stop` is set; it is cancelled when it has
    not ended FINISH_SECONDS later.
    A replica that waits for the lease is ready: it can take over.
    """

    async def run_once() -> None:
        readiness.starting(name)
        lease = leases.acquire(name)
        try:
            await wait_or_stop(lease.tried.wait(), stop)
            readiness.healthy(name)
            await wait_or_stop(lease.held.wait(), stop)
            log.info("lease.acquired", lease=name)
            await _run_while_held(lease, run, stop)
        finally:
            leases.release(lease)

    def on_retry(error: BaseException, _: int) -> None:
        log.warning("lease.fenced", lease=name, error=str(error))

    with suppress(ShuttingDown):
        while not stop.is_set():
            await retrying(Fenced, on_retry=on_retry, stop=stop)(run_once)


async def _run_while_held(lease: Lease, run: Run, stop: asyncio.Event) -> None:
    ended = asyncio.Event()
    running = asyncio.ensure_future(run(ended))
    endings = {asyncio.create_task(event.wait()) for event in (lease.lost, stop)}
    try:
        await asyncio.wait({running, *endings}, return_when=asyncio.FIRST_COMPLETED)
        ended.set()
        if lease.lost.is_set():  # also when the work was fenced meanwhile
            log.warning("lease.lost", lease=lease.name)
        await asyncio.wait({running}, timeout=FINISH_SECONDS)
        if running.done():
            running.result()  # raises the error that ended the work
        else:
            # It waits for a server that does not answer. A commit that still succeeds is in the checkpoint,
            # from which the next holder of the lease continues.
            log.warning("lease.work_abandoned", lease=lease.name, seconds=FINISH_SECONDS)
    finally:
        for task in endings:
            task.cancel()
        await asyncio.gather(*endings, return_exceptions=True)
        await end_task(running, attempts=CANCEL_ATTEMPTS)
