"""One replica holds a lease; the next has it as soon as the first is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.persistence.lease import LOOK_SECONDS, Lease, Leases

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually


@asynccontextmanager
async def replica(dsn: str) -> AsyncIterator[Leases]:
    """A process with leases of its own; leaving the block is its death."""
    leases = Leases(dsn)
    running = asyncio.create_task(leases.run())
    try:
        yield leases
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def held(lease: Lease) -> None:
    async with asyncio.timeout(10):
        await lease.held.wait()


async def test_the_first_to_ask_holds_it_and_the_second_waits(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        await held(first.ask("work"))
        waiting = second.ask("work")
        async with asyncio.timeout(10):
            await waiting.asked.wait()

        assert not waiting.held.is_set()
        await held(second.ask("other work"))


async def test_the_second_takes_over_when_the_first_dies(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as second:
        async with replica(postgres_dsn) as first:
            await held(first.ask("work"))
            waiting = second.ask("work")
            await asyncio.wait_for(waiting.asked.wait(), 10)
        await asyncio.wait_for(waiting.held.wait(), 10 * LOOK_SECONDS)


async def test_a_lease_that_is_given_up_goes_to_the_next(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        lease = first.ask("work")
        await held(lease)
        first.give_up(lease)
        await held(second.ask("work"))


async def test_who_gave_up_waiting_does_not_get_it(postgres_dsn: str) -> None:
    async with replica(postgres_dsn) as first, replica(postgres_dsn) as second:
        lease = first.ask("work")
        await held(lease)
        waiting = second.ask("work")
        second.give_up(waiting)
        first.give_up(lease)
        await held(first.ask("work"))

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


async def test_a_broken_connection_alone_does_not_end_the_work(
    postgres_dsn: str, admin: "asyncpg.Connection[asyncpg.Record]", eventually: "Eventually"
) -> None:
    async with replica(postgres_dsn) as only:
        lease = only.ask("work")
        await held(lease)
        await admin.execute(CUT)

        async def locked() -> bool:
            return int(await admin.fetchval(CUT.replace("pg_terminate_backend(pid)", "count(*)"))) > 0

        await eventually(locked)
        assert not lease.lost.is_set()


async def test_a_lease_that_another_took_meanwhile_is_lost(
    postgres_dsn: str, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with replica(postgres_dsn) as first:
        lease = first.ask("work")
        await held(lease)
        await admin.execute(CUT)
        await admin.execute("select pg_advisory_lock(hashtextextended('work', 0))")

        await asyncio.wait_for(lease.lost.wait(), 10)
