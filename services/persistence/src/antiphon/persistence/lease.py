"""Leases by Postgres advisory lock: one replica does a piece of work, the others wait to take over.

Leases are advisory, the epoch fences: each transaction checks the epoch and the checkpoint, which excludes a
second writer. So a broken connection alone does not stop the work; a lease is lost when another replica has
taken it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import structlog

from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.persistence.errors import POSTGRES_ERRORS, Fenced
from antiphon.persistence.readiness import ReadinessCheck

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5  # between attempts to take leases that another replica holds
TIMEOUT_SECONDS = 5.0

# A replica whose machine is gone closes no connection: the server detects it within five seconds.
KEEPALIVES = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3"}

_TRY_LOCK = """
select name from unnest($1::text[]) as wanted (name) where pg_try_advisory_lock(hashtextextended(name, 0))
"""
_UNLOCK = "select pg_advisory_unlock(hashtextextended(name, 0)) from unnest($1::text[]) as released (name)"

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Lease:
    """An advisory lease on a piece of work; leases are advisory, the epoch fences."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tried = asyncio.Event()  # at least once: if it is not held now, another replica may have it
        self.held = asyncio.Event()
        self.lost = asyncio.Event()


class Leases:
    """All leases of this process, on one connection of their own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._waiting: list[Lease] = []
        self._held: list[Lease] = []
        self._released: list[str] = []
        self._changed = asyncio.Event()

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

    async def run(self) -> None:
        """Hold the connection and the leases until cancelled."""
        await retrying(*POSTGRES_ERRORS, longest_seconds=POLL_SECONDS)(self._hold_connection)

    async def _hold_connection(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=TIMEOUT_SECONDS, server_settings=KEEPALIVES)
        try:
            self._released.clear()
            await self._reacquire(connection)
            while True:
                self._changed.clear()
                await self._unlock(connection)
                await self._try_waiting(connection)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()
        except POSTGRES_ERRORS as error:
            log.warning("leases.connection_lost", error=repr(error))
            raise
        finally:
            connection.terminate()  # releases every lock at once

    async def _reacquire(self, connection: "Connection") -> None:
        locked = await _try_lock(connection, self._held)
        for lease in [lease for lease in self._held if lease.name not in locked]:
            self._held.remove(lease)
            lease.lost.set()

    async def _try_waiting(self, connection: "Connection") -> None:
        tried = list(self._waiting)
        locked = await _try_lock(connection, tried)
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

    async def _unlock(self, connection: "Connection") -> None:
        names, self._released = self._released, []
        if names:
            await connection.execute(_UNLOCK, names, timeout=TIMEOUT_SECONDS)


async def _try_lock(connection: "Connection", leases: list[Lease]) -> set[str]:
    rows = await connection.fetch(_TRY_LOCK, [lease.name for lease in leases], timeout=TIMEOUT_SECONDS)
    return {row["name"] for row in rows}


Run = Callable[[asyncio.Event], Awaitable[None]]  # works until the event is set


async def run_while_leased(
    leases: Leases, name: str, run: Run, readiness: ReadinessCheck, stop: asyncio.Event
) -> None:
    """Call `run` while this process holds the lease, again after each loss, until stopped.

    `run` gets an event of its own, set when the lease is lost or `stop` is set, and is awaited to its end.
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
        await running
    finally:
        for task in (running, *endings):
            task.cancel()
        await asyncio.gather(running, *endings, return_exceptions=True)
    if lease.lost.is_set():
        log.warning("lease.lost", lease=lease.name)
