"""One replica holds a lease and does the work; the next takes over as soon as the first is gone."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.errors import Fenced, NotReady
from antiphon.persistence.lease import POLL_SECONDS, Lease, Leases, run_while_leased
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually


@asynccontextmanager
async def replica(dsn: str) -> AsyncIterator[Leases]:
    """The leases of one process; its connection breaks at the end of the block."""
    leases = Leases(dsn)
    running = asyncio.create_task(leases.run())
    try:
        yield leases
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def held(lease: Lease) -> None:
    async with asyncio.timeout(60):
        await lease.held.wait()


async def test_the_first_replica_holds_a_lease_and_the_second_waits(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        await held(first.acquire("work"))
        waiting = second.acquire("work")
        async with asyncio.timeout(60):
            await waiting.tried.wait()

        assert not waiting.held.is_set()
        await held(second.acquire("other work"))


async def test_the_second_replica_takes_over_when_the_first_is_gone(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as second:
        async with replica(postgres_dsn) as first:
            await held(first.acquire("work"))
            waiting = second.acquire("work")
            await asyncio.wait_for(waiting.tried.wait(), 10)
        await asyncio.wait_for(waiting.held.wait(), 10 * POLL_SECONDS)


async def test_a_released_lease_goes_to_the_next_replica(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        lease = first.acquire("work")
        await held(lease)
        first.release(lease)
        await held(second.acquire("work"))


async def test_a_replica_that_left_the_queue_does_not_get_the_lease(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        lease = first.acquire("work")
        await held(lease)
        waiting = second.acquire("work")
        second.release(waiting)
        first.release(lease)
        await held(first.acquire("work"))

        assert not waiting.held.is_set()


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


CUT = """
select pg_terminate_backend(pid) from pg_locks
 where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
"""


async def test_a_broken_connection_loses_every_lease_at_once(
    postgres_dsn: str, admin: "asyncpg.Connection[asyncpg.Record]", eventually: "Eventually"
) -> None:
    async with replica(postgres_dsn) as only:
        leases = [only.acquire("work"), only.acquire("other work")]
        for lease in leases:
            await held(lease)
        await admin.execute(CUT)

        for lease in leases:
            await asyncio.wait_for(lease.lost.wait(), 10)
        await held(only.acquire("work"))


async def test_a_lost_connection_is_reported_until_there_is_one_again(
    postgres_dsn: str, postgres_server: Postgres, eventually: "Eventually"
) -> None:
    async with replica(postgres_dsn) as only:
        with pytest.raises(NotReady, match="is starting"):
            await only.check()
        await held(only.acquire("work"))
        assert await only.check() == "holds work"

        postgres_server.stop()

        async def reported() -> bool:
            with suppress(NotReady):
                await only.check()
                return False
            return True

        await eventually(reported, seconds=60)
        postgres_server.start()
        await asyncio.wait_for(only.acquire("work").held.wait(), 60)
        assert await only.check() == "holds work"


async def test_a_replica_that_waits_says_who_holds_the_lease(
    postgres_dsn: str, eventually: "Eventually"
) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        await held(first.acquire("work"))
        await asyncio.wait_for(second.acquire("work").tried.wait(), 10)
        holder = f"persistence leases {socket.gethostname()}:{os.getpid()} from 127.0.0.1"

        async def named() -> bool:
            with suppress(NotReady):  # it is starting
                return f"holds none; waits for work, held by {holder}" in await second.check()
            return False

        await eventually(named)


async def test_a_session_without_heartbeats_is_ended_and_its_leases_are_free(
    postgres_dsn: str, admin: "asyncpg.Connection[asyncpg.Record]", eventually: "Eventually"
) -> None:
    hung = Leases(postgres_dsn, session_seconds=1.0)
    connection = await hung._connect()
    await connection.execute("select pg_advisory_lock(hashtextextended('work', 0))")

    async with replica(postgres_dsn) as other:
        await asyncio.wait_for(other.acquire("work").held.wait(), 30)
    connection.terminate()


async def test_a_server_that_accepts_no_writes_grants_no_lease(
    postgres_dsn: str, eventually: "Eventually"
) -> None:
    async with replica(f"{postgres_dsn}?default_transaction_read_only=on") as only:
        lease = only.acquire("work")

        async def refused() -> bool:
            try:
                return not await only.check()
            except NotReady as error:
                return "does not accept writes" in str(error)

        await eventually(refused, seconds=60)
        assert not lease.held.is_set()


async def test_a_lease_that_another_replica_took_is_lost(
    postgres_dsn: str, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with replica(postgres_dsn) as first:
        lease = first.acquire("work")
        await held(lease)
        await admin.execute(CUT)
        await admin.execute("select pg_advisory_lock(hashtextextended('work', 0))")

        await asyncio.wait_for(lease.lost.wait(), 10)


class Work:
    """Work that counts its starts and its graceful ends, and can fail."""

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0
        self.running = asyncio.Event()
        self.fail: Exception | None = None

    async def __call__(self, stop: asyncio.Event) -> None:
        self.started += 1
        self.running.set()
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        await stop.wait()
        self.finished += 1


class LeasedWork:
    """Work that runs while leased; the test grants the lease."""

    def __init__(self) -> None:
        self.leases = Leases("postgresql://nowhere")
        self.work = Work()
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(
            run_while_leased(self.leases, "work", self.work, self.readiness, self.stop)
        )

    async def ready(self) -> bool:
        """Return whether it is ready."""
        try:
            await self.readiness.check()
        except NotReady:
            return False
        return True

    async def lease(self) -> Lease:
        """Return the lease that it waits for."""
        async with asyncio.timeout(60):
            while not self.leases._waiting:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        return self.leases._waiting[-1]

    async def grant(self) -> Lease:
        """Grant the lease."""
        lease = await self.lease()
        self.leases._waiting.remove(lease)
        self.leases._held.append(lease)
        lease.tried.set()
        lease.held.set()
        await asyncio.wait_for(self.work.running.wait(), 5)
        self.work.running.clear()
        return lease


@pytest.fixture
async def leased() -> AsyncIterator[LeasedWork]:
    leased = LeasedWork()
    yield leased
    leased.stop.set()
    await asyncio.wait_for(leased.task, 60)


async def test_a_replica_is_ready_once_it_has_tried_the_lease(
    leased: LeasedWork, eventually: "Eventually"
) -> None:
    lease = await leased.lease()
    with pytest.raises(NotReady):
        await leased.readiness.check()

    lease.tried.set()
    await eventually(leased.ready)
    assert leased.work.started == 0


async def test_a_lost_lease_stops_the_work_gracefully_and_is_acquired_again(leased: LeasedWork) -> None:
    lease = await leased.grant()
    lease.lost.set()
    await leased.grant()

    assert (leased.work.started, leased.work.finished) == (2, 1)


async def test_fenced_work_releases_its_lease_and_acquires_it_again(leased: LeasedWork) -> None:
    leased.work.fail = Fenced("taken over")
    lease = await leased.grant()
    await leased.grant()

    assert lease not in leased.leases._held
    assert leased.work.started == 2


async def test_stop_ends_the_work_and_releases_the_lease(leased: LeasedWork) -> None:
    await leased.grant()
    leased.stop.set()
    await asyncio.wait_for(leased.task, 60)

    assert leased.work.finished == 1
    assert leased.leases._held == []


async def test_an_error_of_the_work_is_raised() -> None:
    leased = LeasedWork()
    leased.work.fail = ValueError("a bug")
    await leased.grant()

    with pytest.raises(ValueError, match="a bug"):
        await asyncio.wait_for(leased.task, 60)
