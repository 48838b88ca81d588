"""`antiphon tail` on a real session-api."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.session_api.conftest import (
    Running,
    buckets,
    livekit,
    persistence,
    running,
    soon_settled,
    start,
)
from tests.session_api.fake_persistence import FakePersistence

from antiphon.cli.commands import tail as module
from antiphon.client import AsyncAntiphon
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed

__all__ = ["buckets", "livekit", "persistence", "running", "soon_settled", "start"]

CLOSED = SessionClosed(reason=CloseReason.AGENT_ENDED, fault=FaultSide.NONE, duration_seconds=1.0, turns=0)
SECONDS = 90.0


@pytest.fixture
async def client(running: Running, soon_settled: None) -> AsyncIterator[AsyncAntiphon]:
    async with AsyncAntiphon(running.url, "writer") as client:
        yield client


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """A function that returns all lines printed so far."""
    lines: list[str] = []

    def read() -> list[str]:
        lines.extend(capsys.readouterr().out.splitlines())
        return lines

    return read


@asynccontextmanager
async def tailing(client: AsyncAntiphon) -> AsyncIterator[None]:
    task = asyncio.create_task(module.follow_all(client))
    await asyncio.sleep(0.5)
    assert not task.done()
    yield
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def create(client: AsyncAntiphon, count: int) -> list[str]:
    created = await asyncio.gather(
        *(client.sessions.create(flow_id="booking", user_id="ada", timeout=60.0) for _ in range(count))
    )
    return [one.session_id for one in created]


def shown(lines: list[str], kind: str) -> set[str]:
    """Return the last characters of the sessions that have a line of this type."""
    return {line[1:7] for line in lines if f"  {kind}  " in line}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it polls what is printed
            await asyncio.sleep(0.05)


async def test_every_session_of_many_created_at_once_is_shown(
    client: AsyncAntiphon, persistence: FakePersistence, printed: Callable[[], list[str]]
) -> None:
    async with tailing(client):
        ids = await create(client, 60)
        for one in ids:
            await persistence.catch_up(one)
        ends = {one[-6:] for one in ids}
        await until(lambda: shown(printed(), "session.requested") == ends)  # with 30 streams for 60
        for one in ids:
            await persistence.commit(one, CLOSED)
        await until(lambda: shown(printed(), "session.closed") == ends)

    lines = printed()
    assert sum("  session.requested  " in line for line in lines) == 60
    assert sum("  session.closed  " in line for line in lines) == 60


async def test_more_sessions_than_streams_show_their_start_and_wait(
    client: AsyncAntiphon,
    persistence: FakePersistence,
    printed: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STREAMS", 1)
    first, second, third = [(await create(client, 1))[0] for _ in range(3)]
    for one in (first, second, third):
        await persistence.catch_up(one)
    async with tailing(client):
        await until(lambda: len(shown(printed(), "session.requested")) == 3)
        await until(lambda: sum("waits: " in line for line in printed()) == 2)
        for one in (first, second, third):
            await persistence.commit(one, CLOSED)
        await until(lambda: len(shown(printed(), "session.closed")) == 3)


async def test_sessions_that_had_ended_before_are_not_shown(
    client: AsyncAntiphon, persistence: FakePersistence, printed: Callable[[], list[str]]
) -> None:
    ended, live = [(await create(client, 1))[0] for _ in range(2)]
    await persistence.commit(ended, CLOSED)
    await persistence.catch_up(live)
    async with tailing(client):
        [later] = await create(client, 1)
        await persistence.commit(later, CLOSED)  # it has ended before tail sees it
        await until(lambda: later[-6:] in shown(printed(), "session.closed"))

    assert shown(printed(), "session.requested") == {live[-6:], later[-6:]}


async def test_a_session_that_is_listed_late_is_shown(
    client: AsyncAntiphon, persistence: FakePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERY_LATE_SECONDS", 0.0)
    await create_and_commit(client, persistence)
    newcomers = module.Newcomers(client)
    assert len([one async for one in newcomers.look()]) == 1
    late, newer = await create(client, 2)
    await persistence.catch_up(newer)
    assert [one.session_id async for one in newcomers.look()] == [newer]
    await persistence.catch_up(late)  # its partition was behind

    assert [one.session_id async for one in newcomers.look()] == [late]
    assert [one.session_id async for one in newcomers.look()] == []


async def create_and_commit(client: AsyncAntiphon, persistence: FakePersistence) -> None:
    for one in await create(client, 1):
        await persistence.catch_up(one)


async def test_what_was_seen_long_ago_is_forgotten(client: AsyncAntiphon) -> None:
    newcomers = module.Newcomers(client)
    now = datetime.now(UTC)
    newcomers._newest = now
    newcomers._seen = {f"ses_{n}": now - timedelta(minutes=n / 50) for n in range(2_000)}
    newcomers._forget()

    assert len(newcomers._seen) == 1_001
