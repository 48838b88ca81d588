"""Followers of the log while NATS is cut off, Postgres is killed, and one of them is slow."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import asyncpg
import psutil
import pytest
from tests.chassis.log.conftest import INSERT, Writer, rows
from tests.chassis.log.followers import DEADLINE_SECONDS, followers
from tests.fixtures.cut_off import cut_off_proxy
from tests.fixtures.ids import SequentialIds

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import TRANSIENT, Database
from antiphon.chassis.log import Log
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS


class Load:
    """Sessions of two tenants that go on: each commit is announced; a commit that fails is tried again."""

    def __init__(self, writer: Writer, database: Database) -> None:
        ids = SequentialIds()
        self.sessions = [ids() for _ in range(30)]
        self.committed: list[Envelope] = []
        self.stopped = False
        self._writer = writer
        self._database = database

    async def run(self) -> None:
        number = 0
        while not self.stopped:
            number += 1
            session = number % len(self.sessions)
            tenant = "other" if session % 3 == 0 else "default"
            envelopes = self._writer.envelopes(self.sessions[session], 3, tenant, turns=number % 5 == 0)
            await self._insert(envelopes)
            self.committed += envelopes
            await self._writer.announce(envelopes)
            await asyncio.sleep(0.005)

    async def _insert(self, envelopes: list[Envelope]) -> None:
        while True:
            with suppress(*TRANSIENT):
                with suppress(asyncpg.UniqueViolationError):  # the attempt before has committed
                    await self._database.pool.executemany(INSERT, rows(envelopes))
                return
            await asyncio.sleep(0.05)

    async def grows(self, count: int) -> None:
        """Wait until as many events more are committed."""
        until = len(self.committed) + count
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.committed) < until:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[None]:
    task = asyncio.ensure_future(load.run())
    try:
        yield
    finally:
        load.stopped = True  # a commit in the middle would be one that nobody knows of
        await task


@pytest.fixture
def load(writer: Any, database: Database) -> Load:
    return Load(writer, database)


async def test_followers_go_on_while_nats_is_cut_off(
    nats_server: NatsServer, database: Database, load: Load
) -> None:
    async with cut_off_proxy(nats_server.port) as proxy:
        bus = await Bus.connect(f"nats://127.0.0.1:{proxy.port}", name="cut off")
        async with followers(Log(database, bus), Cursor()) as started:
            async with running(load):
                await load.grows(100)
                proxy.forwarding.clear()
                await load.grows(100)
                during = list(load.committed)
                for follower in started[:1]:
                    await _has(follower, during)
                await asyncio.sleep(3)
                proxy.forwarding.set()
                await load.grows(200)
            for follower in started:
                await follower.check(load.committed)
        await bus.close()


async def test_followers_go_on_after_postgres_was_killed(
    postgres_server: Postgres, database: Database, bus: Bus, load: Load
) -> None:
    async with followers(Log(database, bus), Cursor()) as started:
        async with running(load):
            for _ in range(2):
                await load.grows(60)
                postgres_server.kill()
                await asyncio.sleep(0.2)
                postgres_server.start()  # by this thread: the server ends with the one that starts it
            await load.grows(60)
        for follower in started:
            await follower.check(load.committed)
            await follower.passes(await Log(database, bus).head())


async def test_a_slow_follower_costs_bounded_memory_and_reads_the_log(
    database: Database, bus: Bus, load: Load, writer: Any
) -> None:
    """It takes nothing while 300 MB are announced; then it reads the log, where it finds what matters."""
    log = Log(database, bus)
    session = load.sessions[0]
    async with aclosing(log.follow(Cursor(), batch=64, prefetch=True)) as following:
        await anext(following)
        first = await writer.commit_and_announce(session)
        assert [e.position for e in await _next(following)] == [first[0].position]
        committed = await writer.commit(session, 200)
        await writer.commit(load.sessions[1], 200, size=20_000)
        before = _resident_kib()
        for number in range(300):
            subject = f"committed.{number % PARTITIONS}.default.{session}"
            for _ in range(10):
                await bus.announce(subject, b"x" * 100_000)
            await bus.ready()  # the broker has answered: they have arrived

        assert _resident_kib() - before < 64 << 10
        received: list[Envelope] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(received) < 400:
                batch = (await anext(following)).envelopes
                assert len(batch) <= 64
                received += batch
    mine = [e.sequence for e in received if e.subject == session]
    assert mine == [e.sequence for e in committed]


async def test_followers_share_one_subscription_and_leave_nothing(bus: Bus, database: Database) -> None:
    log = Log(database, bus)
    before = asyncio.all_tasks()
    following = [log.follow(Cursor(), types=["turn.saved"], prefetch=True) for _ in range(7)]
    of_tenant = [log.follow(Cursor(), tenant="other") for _ in range(2)]
    for one in following + of_tenant:
        await anext(one)

    await _until(lambda: sorted(_subjects(bus)) == ["committed.*.other.>", "committed.>"])
    assert [len(shared.subscribers) for shared in _subjects(bus).values()] == [1, 1]
    for one in following[:-1] + of_tenant:
        await one.aclose()
    await _until(lambda: list(_subjects(bus)) == ["committed.>"])
    await following[-1].aclose()

    await _until(lambda: not _subjects(bus) and asyncio.all_tasks() <= before)


async def test_a_follower_can_begin_while_the_last_one_ends(
    bus: Bus, database: Database, writer: Any
) -> None:
    log = Log(database, bus)
    session = SequentialIds()()
    for number in range(1, 6):
        cursor = await log.head()
        old = log.follow(cursor)
        await anext(old)
        new = log.follow(cursor)
        await asyncio.gather(old.aclose(), anext(new))
        await writer.commit_and_announce(session)
        assert [e.sequence for e in await _next(new)] == [number]
        await new.aclose()


def _subjects(bus: Bus) -> dict[str, Any]:
    return bus._subscriptions._by_subject


async def _until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def _next(following: AsyncIterator[Any]) -> list[Envelope]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (envelopes := (await anext(following)).envelopes):
            pass
    return list(envelopes)


async def _has(follower: Any, committed: list[Envelope]) -> None:
    """Wait until these have arrived, while others go on."""
    wanted = {(e.subject, e.sequence) for e in committed}
    await _until(lambda: wanted <= {(e.subject, e.sequence) for e in follower.received})


def _resident_kib() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss) >> 10
