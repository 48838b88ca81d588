"""Who reads the log when many want to: no tenant waits for another, and who has left is forgotten."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import httpx
import pytest
from tests.session_api.conftest import Running
from tests.session_api.feed.conftest import READY, LogWriter, streaming

from antiphon.session_api.feed.steps import Steps

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
MANY = 12


@pytest.fixture
def held(running: Running, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Steps of the tenant `default` do not end before this is set."""
    reader, go_on = running.dependencies.hubs.reader, asyncio.Event()
    step = reader.step

    async def slow(tenant: str, *arguments: Any, **named: Any) -> Any:
        if tenant == "default":
            await go_on.wait()
        return await step(tenant, *arguments, **named)

    monkeypatch.setattr(reader, "step", slow)
    return go_on


async def test_no_tenant_waits_for_the_steps_of_another(
    running: Running, writer: LogWriter, held: asyncio.Event
) -> None:
    theirs = writer.session("t", "other")
    await writer.commit(writer.session("o"), READY)
    await writer.commit(theirs, READY, READY, tenant="other")
    headers = {"Authorization": "Bearer foreign"}
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(streaming(running.url)) for _ in range(MANY)]
        other = await stack.enter_async_context(streaming(running.url, "foreign"))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=running.url, headers=headers))
        got = await other.take(2)
        export = await client.get("/v1/events/export", timeout=60)
        held.set()
        own = [await stream.take(1) for stream in streams]

    assert [one.key for one in got] == [(theirs, 1), (theirs, 2)]
    assert export.text.count('"specversion"') == 2
    assert len(own) == MANY


async def test_streams_that_wait_end_with_their_clients(
    running: Running, writer: LogWriter, held: asyncio.Event, until: Until
) -> None:
    await writer.commit(writer.session("o"), READY)
    open_streams = running.dependencies.limits.streams

    async def gone() -> bool:
        return not len(open_streams) and not len(running.dependencies.hubs)

    async with AsyncExitStack() as stack:
        for _ in range(MANY):
            await stack.enter_async_context(streaming(running.url))
        assert len(open_streams) == MANY
    await until(gone)

    assert not held.is_set()


async def test_a_client_that_leaves_ends_its_export_in_a_step(
    running: Running, writer: LogWriter, held: asyncio.Event, until: Until
) -> None:
    await writer.commit(writer.session("o"), READY)

    async def gone() -> bool:
        return not running.dependencies.exports._running

    headers = {"Authorization": "Bearer reader"}
    async with (
        httpx.AsyncClient(base_url=running.url, headers=headers) as client,
        client.stream("GET", "/v1/events/export") as response,
    ):
        await anext(response.aiter_bytes())
    await until(gone)

    assert not held.is_set()


async def test_tenants_alternate() -> None:
    steps, order = Steps(1, 1), list[str]()

    async def read(tenant: str) -> None:
        async with steps.of(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*map(read, "aaaaabbc"))

    assert "".join(order) == "aabcabaa"


async def test_limits_hold_and_nothing_is_left_when_waiters_are_cancelled() -> None:
    random, steps, running = Random(9), Steps(4, 3), Counter[str]()

    async def read(tenant: str) -> None:
        async with steps.of(tenant):
            running[tenant] += 1
            assert running[tenant] <= 3
            assert running.total() <= 4
            try:
                await asyncio.sleep(random.uniform(0, 0.002))
            finally:
                running[tenant] -= 1

    tasks = [asyncio.create_task(read(random.choice("aaaab"))) for _ in range(400)]
    for task in random.sample(tasks, 200):
        if random.random() < 0.3:
            await asyncio.sleep(0)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(each) for each in ended} == {type(None), asyncio.CancelledError}
    assert steps.waiting == 0
    async with asyncio.timeout(5), steps.of("a"), steps.of("a"), steps.of("a"), steps.of("b"):
        waiting = asyncio.create_task(read("a"))
        await asyncio.sleep(0.01)
        assert steps.waiting == 1
    await waiting
