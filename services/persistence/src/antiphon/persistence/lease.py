"""Leases by Postgres advisory lock: one replica does a piece of work, the others wait for its end."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import structlog

from antiphon.chassis.database import TRANSIENT

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5  # how often we ask for what another replica holds, and prove that the connection lives
ANSWER_SECONDS = 5.0

NOT_NOW: tuple[type[Exception], ...] = (asyncpg.PostgresError, *TRANSIENT)

# A replica whose machine is gone closes no connection: the server finds out by itself, within five seconds.
NOTICE_DEATH = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3"}

_TRY = """
select name from unnest($1::text[]) as wanted (name) where pg_try_advisory_lock(hashtextextended(name, 0))
"""
_UNLOCK = "select pg_advisory_unlock(hashtextextended(name, 0)) from unnest($1::text[]) as given_up (name)"

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Lease:
    """Stand for one piece of work; `held` and `lost` are set when it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = asyncio.Event()  # asked for at least once: another replica may be holding it
        self.held = asyncio.Event()
        self.lost = asyncio.Event()


class Leases:
    """Hold all leases of this process on one connection of its own.

    A lease is only good manners: what keeps two writers apart is the epoch and the checkpoint in each
    transaction. So a broken connection alone does not stop the work; a lease is lost when another has it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._waiting: list[Lease] = []
        self._held: list[Lease] = []
        self._given_up: list[str] = []
        self._changed = asyncio.Event()

    def ask(self, name: str) -> Lease:
        """Queue for a lease; its `held` event says when it is ours."""
        lease = Lease(name)
        self._waiting.append(lease)
        self._changed.set()
        return lease

    def give_up(self, lease: Lease) -> None:
        """Let another replica have it."""
        if lease in self._waiting:
            self._waiting.remove(lease)
        if lease in self._held:
            self._held.remove(lease)
            self._given_up.append(lease.name)
            self._changed.set()

    async def run(self) -> None:
        """Keep the connection and the leases until cancelled."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._dsn, timeout=ANSWER_SECONDS, server_settings=NOTICE_DEATH
                )
            except NOT_NOW:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                await self._keep(connection)
            except NOT_NOW as error:
                log.warning("leases.connection_lost", error=repr(error))
                await asyncio.sleep(LOOK_SECONDS)
            finally:
                connection.terminate()  # frees every lock at once

    async def _keep(self, connection: "Connection") -> None:
        self._given_up.clear()
        await self._take_again(connection)
        while True:
            self._changed.clear()
            await self._let_go(connection)
            await self._take(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()

    async def _take_again(self, connection: "Connection") -> None:
        taken = await _try(connection, self._held)
        for lease in [lease for lease in self._held if lease.name not in taken]:
            self._held.remove(lease)
            lease.lost.set()

    async def _take(self, connection: "Connection") -> None:
        asked = list(self._waiting)
        taken = await _try(connection, asked)
        for lease in asked:
            lease.asked.set()
            if lease.name not in taken:
                continue
            if lease in self._waiting:
                self._waiting.remove(lease)
                self._held.append(lease)
                lease.held.set()
            else:  # given up while we asked
                self._given_up.append(lease.name)

    async def _let_go(self, connection: "Connection") -> None:
        names, self._given_up = self._given_up, []
        if names:
            await connection.execute(_UNLOCK, names, timeout=ANSWER_SECONDS)


async def _try(connection: "Connection", leases: list[Lease]) -> set[str]:
    rows = await connection.fetch(_TRY, [lease.name for lease in leases], timeout=ANSWER_SECONDS)
    return {row["name"] for row in rows}
