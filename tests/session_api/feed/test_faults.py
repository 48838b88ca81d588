"""Streams of a tenant while servers are away: each event once, in the order of its session."""

import asyncio
import socket

import asyncpg
import httpx
import pytest
from tests.session_api.conftest import Running, Start
from tests.session_api.feed.conftest import (
    KINDS,
    READY,
    TURN,
    LogWriter,
    Received,
    assert_each_once_in_order,
    keys_of,
    requested,
    streaming,
)

from antiphon.chassis.database import DatabaseUnavailable
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.events.agent import AgentReady

OUTAGE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, DatabaseUnavailable)


async def test_a_restart_of_the_service_in_the_middle_of_streams(start: Start, writer: LogWriter) -> None:
    ids = [writer.session(str(number)) for number in range(8)]
    await writer.commit_all([(one, event) for event in KINDS for one in ids])
    found: list[Received] = []
    resume: str | None = None
    for round_ in range(3):
        api = await start()
        async with streaming(api.url, last_event_id=resume) as stream:
            found += await stream.take(5 + round_)
            resume = stream.last_id
            await writer.commit_all([(one, TURN) for one in ids])
            api.stop.set()
            await stream.end()  # what came until the end is not processed: it comes again
        await writer.commit_all([(one, READY) for one in ids])
    api = await start()
    async with streaming(api.url, last_event_id=resume) as stream:
        found += await stream.take(len(writer.log) - len(found))

    assert_each_once_in_order([one.key for one in found], keys_of(writer.log))


async def test_an_outage_of_the_broker(running: Running, writer: LogWriter, nats_server: NatsServer) -> None:
    ids = [writer.session(str(number)) for number in range(8)]
    await writer.commit_all([(one, requested("a")) for one in ids])
    async with streaming(running.url) as one, streaming(running.url, flow_id="a") as other:
        first = await one.take(8), await other.take(8)
        nats_server.stop()
        writer.announces = False
        for _ in range(5):
            await writer.commit_all([(each, TURN) for each in ids])
        during = await one.take(40), await other.take(40)  # by polling the log
        nats_server.start()
        writer.announces = True
        await writer.commit_all([(each, READY) for each in ids])
        after = await one.take(8), await other.take(8)

    for parts in zip(first, during, after, strict=True):
        assert_each_once_in_order([each.key for part in parts for each in part], keys_of(writer.log))


async def test_a_restart_of_postgres(running: Running, writer: LogWriter, postgres_server: Postgres) -> None:
    ids = [writer.session(str(number)) for number in range(8)]
    await writer.commit_all([(one, requested("a")) for one in ids])
    async with (
        streaming(running.url) as one,
        streaming(running.url, flow_id="a") as other,
        streaming(running.url, type="turn.saved") as turns,
    ):
        first = await one.take(8), await other.take(8)
        postgres_server.stop()
        await asyncio.sleep(1.5)
        postgres_server.start()
        await commit_when_back(writer, ids)
        after = await one.take(8), await other.take(8)
        of_turns = await turns.take(8)

    for parts in zip(first, after, strict=True):
        assert_each_once_in_order([each.key for part in parts for each in part], keys_of(writer.log))
    assert_each_once_in_order([each.key for each in of_turns], keys_of(writer.log[8:]))


async def commit_when_back(writer: LogWriter, ids: list[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await writer.database.pool.fetchval("select 1")
            except OUTAGE:
                await asyncio.sleep(0.1)
            else:
                break
    await writer.commit_all([(each, TURN) for each in ids])


async def test_a_stream_that_opens_while_postgres_is_away_responds_503(
    start: Start, postgres_server: Postgres
) -> None:
    api = await start()
    postgres_server.stop()
    try:
        headers = {"Authorization": "Bearer reader", "Accept": "text/event-stream"}
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=60) as client:
            response = await client.get("/v1/events", params={"after": "now"})
    finally:
        postgres_server.start()

    assert response.status_code == 503
    assert response.headers["retry-after"]


async def test_a_slow_reader_next_to_fast_ones(
    running: Running, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs = running.dependencies.hubs
    monkeypatch.setattr(hubs, "hub_bytes", 300_000)
    large = AgentReady(greeting="x" * 20_000, ready_ms=1.0)
    one = writer.session("a")
    await writer.commit(one, READY)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(120), streaming(running.url) as fast, streaming(running.url) as second:
        await loop.sock_connect(slow, ("127.0.0.1", int(running.url.rpartition(":")[2])))
        head = (
            "GET /v1/events HTTP/1.1",
            "Host: x",
            "Accept: text/event-stream",
            "Authorization: Bearer reader",
        )
        await loop.sock_sendall(slow, ("\r\n".join(head) + "\r\n\r\n").encode())
        assert (await loop.sock_recv(slow, 15)).startswith(b"HTTP/1.1 200")
        found = await fast.take(1), await second.take(1)
        for _ in range(30):
            await writer.commit(one, *[large] * 10)
            for stream, events in zip((fast, second), found, strict=True):
                events.extend(await stream.take(10))
            assert hubs.bytes <= 300_000
        received = b""
        while received.count(b'"sequence":') < len(writer.log) or not received.endswith(b"\n\n\r\n"):
            received += await loop.sock_recv(slow, 1 << 20)
    slow.close()

    for events in found:
        assert_each_once_in_order([each.key for each in events], keys_of(writer.log))
    sequences = [int(part.split(b",")[0]) for part in received.split(b'"sequence":')[1:]]
    assert sequences == list(range(1, len(writer.log) + 1))


async def test_two_tenants_never_see_each_other(running: Running, writer: LogWriter) -> None:
    ours = [writer.session(f"o{number}") for number in range(6)]
    theirs = [writer.session(f"t{number}", "other") for number in range(6)]
    async with streaming(running.url) as one, streaming(running.url, "foreign") as other:
        for _ in range(20):
            await writer.commit_all([(each, READY) for each in ours])
            await writer.commit_all([(each, READY) for each in theirs], tenant="other")
        found = await one.take(120), await other.take(120)
    async with streaming(running.url, last_event_id=found[1][60].id) as crossed:
        rest = await crossed.take(1)

    assert {each.event["tenant"] for each in found[0] + rest} == {"default"}
    assert {each.event["tenant"] for each in found[1]} == {"other"}
    for events, tenant in zip(found, ("default", "other"), strict=True):
        expected = keys_of(e for e in writer.log if e.tenant == tenant)
        assert_each_once_in_order([each.key for each in events], expected)
