"""The page about consumers on the bus: its Python and its SQL run as they are shown."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest
from nats.js.errors import NotFoundError
from tests.fixtures.nats_servers import ConfiguredServer

from antiphon.chassis.bus import Bus, BusUnavailable, Outgoing, outgoing
from antiphon.chassis.bus.durable import permissions
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.chassis.nats_access import URL, NatsAccess
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import PROBE
from antiphon.persistence.access.command import plan_of, roles

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "consume-events-on-the-bus.md").read_text()
FASTSTREAM, NATS_PY = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
ROLE, *QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SESSION = "ses_00000000000000000000000001"
NOW = datetime.now(UTC)
DEADLINE_SECONDS = 60

Consume = Callable[[str, str, Callable[[bytes], Awaitable[None]], asyncio.Event], Awaitable[None]]


def documented(code: str) -> dict[str, Any]:
    """Run a block of the page as a module that is imported."""
    namespace: dict[str, Any] = {"__name__": "documented"}
    exec(compile(code, "documented", "exec"), namespace)
    return namespace


def turn(number: int, latency: float = 1.0) -> Envelope:
    return seal(
        TurnSaved(turn=number, agent_id="host", metrics={"e2e_latency": latency}),
        id=f"turn-{number}",
        session_id=SESSION,
        tenant="default",
        producer="test",
        producerseq=number,
        time=NOW,
    )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.02)


async def test_the_faststream_program_runs(
    bus: Bus,
    nats_server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(URL, nats_server.url)
    consumer = documented(FASTSTREAM)["consumer"]
    assert isinstance(consumer, TypedConsumer)
    await bus.publish(outgoing(turn(9, latency=9)))  # before it starts
    await consumer.broker.start()
    try:
        for number, latency in ((1, 0.5), (2, 2.5)):
            await bus.publish(outgoing(turn(number, latency)))
        await until(lambda: consumer.counts["turn.saved", "handled"] == 2)
    finally:
        await consumer.broker.stop()
        await bus.connection.api("STREAM.DELETE.DEAD_slow-answers")
    assert capsys.readouterr().out == f"turn-2 {SESSION} host 2.5\n"


async def test_the_loop_of_nats_py_loses_nothing(bus: Bus, nats_server: NatsServer) -> None:
    consume: Consume = documented(NATS_PY)["consume"]
    seen: list[str] = []
    calls = 0

    async def handle(data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("once")
        seen.append(decode(data).id)

    await bus.publish(Outgoing(PROBE, b"", "probe"))
    await bus.publish_many([outgoing(turn(number)) for number in range(1, 6)])
    stop = asyncio.Event()
    running = asyncio.ensure_future(consume(nats_server.url, "plain", handle, stop))
    await until(lambda: len(seen) == 5)
    nats_server.stop()
    nats_server.start()
    await bus.connection.connected.wait()
    await bus.publish(outgoing(turn(6)))
    await until(lambda: len(seen) == 6)
    stop.set()
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert seen == [f"turn-{number}" for number in range(1, 7)]  # in order, the one that failed too


async def test_the_loop_of_nats_py_ends_when_its_durable_is_gone(bus: Bus, nats_server: NatsServer) -> None:
    consume: Consume = documented(NATS_PY)["consume"]

    async def handle(data: bytes) -> None:
        raise AssertionError

    running = asyncio.ensure_future(consume(nats_server.url, "plain", handle, asyncio.Event()))
    async with asyncio.timeout(DEADLINE_SECONDS):
        names: list[str] = []
        while "plain" not in names:
            names = (await bus.connection.api("CONSUMER.NAMES.SESSIONS"))["consumers"] or []
            await asyncio.sleep(0.02)
    await bus.connection.api("CONSUMER.DELETE.SESSIONS.plain")
    with pytest.raises(NotFoundError):
        await asyncio.wait_for(running, DEADLINE_SECONDS)


@pytest.fixture
def restricted(tmp_path: Path) -> Iterator[ConfiguredServer]:
    """A server with a user that may do all, and one with the permissions of the page."""
    allowed = msgspec.json.encode(permissions("slow-answers")).decode()
    refused = msgspec.json.encode({"publish": ["$JS.API.STREAM.INFO.SESSIONS"], "subscribe": ["_INBOX.>"]})
    users = (
        "{user: all, password: all}",
        f"{{user: analytics, password: p, permissions: {allowed}}}",
        f"{{user: less, password: p, permissions: {refused.decode()}}}",
    )
    server = ConfiguredServer(tmp_path / "nats", f"authorization {{ users: [{', '.join(users)}] }}\n")
    server.launch()
    yield server
    server.stop()


async def test_a_user_with_the_permissions_of_the_page_can_consume_and_no_more(
    restricted: ConfiguredServer,
) -> None:
    everything = await restricted.connect(NatsAccess(url=restricted.url, user="all", password="all"))
    await everything.ensure()
    access = NatsAccess(url=restricted.url, user="analytics", password="p")
    consumer = TypedConsumer("slow-answers", access, retries=(0.05,))

    @consumer.on(TurnSaved)
    async def answered(event: TurnSaved, envelope: Envelope) -> None:
        if event.turn == 2:
            raise RuntimeError("no")

    await everything.publish_many([outgoing(turn(number)) for number in (1, 2, 3)])
    await consumer.broker.start()
    try:
        await until(lambda: consumer.counts["turn.saved", "handled"] == 2)
        assert consumer.counts["turn.saved", "dead"] == 1
        assert await consumer.pending() == 0
        name = "slow-answers-" + outgoing(turn(1)).subject.split(".")[1]
        await everything.connection.api(f"CONSUMER.DELETE.SESSIONS.{name}")
        await everything.publish(outgoing(turn(4)))
        await until(lambda: consumer.counts["turn.saved", "handled"] == 3)
        for verb in ("STREAM.DELETE.SESSIONS", "STREAM.PURGE.SESSIONS", "STREAM.INFO.KV_keys"):
            with pytest.raises(BusUnavailable):
                await consumer.broker.events.api(verb, timeout_seconds=0.5)
    finally:
        await consumer.broker.stop()
    await everything.close()


async def test_a_missing_permission_is_named(restricted: ConfiguredServer) -> None:
    everything = await restricted.connect(NatsAccess(url=restricted.url, user="all", password="all"))
    await everything.close()
    access = NatsAccess(url=restricted.url, user="less", password="p")
    consumer = TypedConsumer("slow-answers", access)

    @consumer.on(TurnSaved)
    async def answered(event: TurnSaved, envelope: Envelope) -> None:
        raise AssertionError

    with pytest.raises(BusUnavailable, match=r"(?i)permissions violation .*STREAM.INFO.DEAD_slow-answers"):
        await consumer.broker.start()
    await consumer.broker.stop()


async def test_the_role_reads_the_views_and_nothing_else(postgres_dsn: str) -> None:
    await roles(postgres_dsn, plan_of([], None, [], None, None), apply=True, say=len)
    owner = await asyncpg.connect(postgres_dsn)
    await _store_a_session(owner)
    await owner.execute(ROLE)
    try:
        reader = await asyncpg.connect(_as_analyst(postgres_dsn))
        try:
            by_flow, by_end, unfinished = [await reader.fetch(query) for query in QUERIES]
            assert [tuple(row) for row in by_flow] == [("booking", 2, pytest.approx(1.95))]
            assert [(r["reason"], r["fault"], r["calls"]) for r in by_end] == [("agent_ended", "none", 1)]
            assert [(row["session_id"], row["turn"]) for row in unfinished] == [(SESSION, 3)]
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch("select * from event_log")
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await reader.execute("delete from turns")
            await reader.execute("set default_transaction_read_only = off")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute("delete from turns")
        finally:
            await reader.close()
    finally:
        await owner.execute("drop owned by analyst; drop role analyst")
        await owner.close()


async def _store_a_session(owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    await owner.execute(
        "insert into sessions (session_id, tenant, created_at, ended_at, updated_at, status, turns, skipped,"
        " sequence, flow_id, reason, fault) values ($1, 'default', $2, $3, $3, 'closed', 2, 0, 9, 'booking',"
        " 'agent_ended', 'none')",
        SESSION,
        NOW - timedelta(minutes=2),
        NOW,
    )
    for number, state, metrics in (
        (1, "saved", '{"e2e_latency": 1.0}'),
        (2, "saved", '{"e2e_latency": 2.0}'),
        (3, "open", "{}"),
    ):
        await owner.execute(
            "insert into turns (session_id, epoch, turn, tenant, agent_id, state, interrupted, recovered,"
            " occurred_at, sequence, first_sequence, tool_call_ids, metrics) values"
            " ($1, 'AJ', $2, 'default', 'host', $3, false, false, $4, $2, $2, '[]', $5)",
            SESSION,
            number,
            state,
            NOW,
            metrics,
        )


def _as_analyst(dsn: str) -> str:
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"analyst:change-me@{host}").geturl()
