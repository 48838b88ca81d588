"""One stack for the whole matrix: session-api over HTTP, a persistence process, a broker and a database.

The tenant `victim` has something in everything that is stored, with CANARY in each text that nobody else can
know; the tenant `intruder` has keys of every kind, and little else.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from tests.persistence.conftest import Replica
from tests.session_api.conftest import DEPLOYMENT, free_port, rooms_for, settings_for
from tests.session_api.fake_livekit import FakeLiveKit

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.http.server import serve_http
from antiphon.cli.stack.disk import MAX_STORE_BYTES
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.api_keys import ApiKey, Scope, decode_key, encode_key, key_digest
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady
from antiphon.contracts.events.livekit import LiveKitOther
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.flows import (
    FLOW_CHECK,
    FLOW_CHECKERS,
    FlowCheckReply,
    FlowSummary,
    decode_check_request,
)
from antiphon.contracts.ids import named_session_id
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies, wire

CANARY = "c4n4ry-of-the-victim"
VICTIM, INTRUDER = "victim", "intruder"
FLOW = "vault"  # of both tenants, with other content
IDEMPOTENCY_KEY = "order-1"  # of both tenants
USER, CONVERSATION = "known-user", "known-conversation"  # what an intruder may have heard of
OF_VICTIM = f'"tenant":"{VICTIM}"'.encode()
SECONDS = 60.0
EVERY = tuple(Scope)


@dataclass
class Stack:
    """The stack, the victim's ids, and a function for keys."""

    url: str
    bus: Bus
    database: Database
    dependencies: Dependencies
    app: Any
    session_id: str = ""
    key_id: str = ""
    cursors: dict[str, str] = field(default_factory=dict)

    async def put_key(self, name: str, tenant: str, scopes: tuple[str, ...], **fields: Any) -> str:
        """Store a key with the name as its secret, and return its id."""
        digest = key_digest(name)
        value = encode_key(ApiKey(tenant=tenant, name=name, scopes=frozenset(scopes), **fields))
        await (await self.bus.bucket("keys")).put(digest, value)
        async with asyncio.timeout(SECONDS):
            while not self.dependencies.keys.holds(digest, value):  # noqa: ASYNC110 - the watch has no event
                await asyncio.sleep(0.01)
        return decode_key(digest, value).id

    async def publish(self, tenant: str, session_id: str, *events: Event, producer: str = "AJ_test") -> None:
        """Publish events of a session, as an agent does."""
        for number, event in enumerate(events):
            sealed = seal(
                event,
                id=f"{session_id}:{producer}:{number}",
                session_id=session_id,
                tenant=tenant,
                producer=producer,
                producerseq=number,
                time=datetime.now(UTC),
            )
            await self.bus.publish(outgoing(sealed))

    async def of_victim(self) -> tuple[object, ...]:
        """Return all that is stored of the victim, to compare."""
        found: list[object] = []
        for name in ("keys", "flows", "flow_drafts", "audit"):
            entries = [entry async for entry in (await self.bus.bucket(name)).entries()]
            found.append([(k, v) for k, v in entries if k.startswith(f"{VICTIM}.") or OF_VICTIM in v])
        query = {"subjects_filter": f"sessions.*.{VICTIM}.>"}
        info = await self.bus.connection.api("STREAM.INFO.SESSIONS", query)
        found.append(info["state"].get("subjects"))
        rows = await self.database.pool.fetch("select * from event_log where tenant = $1", VICTIM)
        return (*found, sorted(tuple(map(str, row)) for row in rows))


async def check(payload: bytes) -> bytes:
    """Answer as an agent worker does: every flow is good."""
    source = decode_check_request(payload).source
    summary = FlowSummary(flow_id=FLOW, name=source, description=source, language="en", greeting=source)
    return msgspec.json.encode(FlowCheckReply(summary=summary))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A broker of the matrix alone: other tests empty theirs."""
    server = NatsServer(tmp_path_factory.mktemp("tenants") / "nats", max_store_bytes=MAX_STORE_BYTES)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    broker: NatsServer, embedded_postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """The stack, with what the victim has."""
    folder = tmp_path_factory.mktemp("tenants")
    async with AsyncExitStack() as closing:
        dsn = await _database(embedded_postgres)
        bus = await Bus.connect(broker.url, name="tenants")
        closing.push_async_callback(bus.close)
        persistence = await _persistence(broker.url, dsn, folder)
        closing.push_async_callback(persistence.end)
        database = await Database.connect(dsn, min_size=0, max_size=8)
        closing.push_async_callback(database.close)
        responder = await bus.serve(FLOW_CHECK, check, group=FLOW_CHECKERS, deadline_seconds=60)
        closing.push_async_callback(responder.close)
        stack = await _api(closing, bus, database)
        await _fill(stack)
        yield stack


async def _database(server: Postgres) -> str:
    from antiphon.persistence.migrations import migrate

    connection = await asyncpg.connect(server.dsn_of("postgres"))
    await connection.execute("create database tenants")
    await connection.close()
    await asyncio.to_thread(migrate, server.dsn_of("tenants"))
    return server.dsn_of("tenants")


async def _persistence(nats_url: str, dsn: str, folder: Path) -> Replica:
    persistence = Replica(nats_url, dsn, folder / "persistence.log")
    await persistence.start()
    await persistence.until_ready()
    return persistence


async def _api(closing: AsyncExitStack, bus: Bus, database: Database) -> Stack:
    livekit = FakeLiveKit()
    application = web.Application()
    application.router.add_post("/twirp/livekit.RoomService/{method}", livekit.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = settings_for(
        f"ws://127.0.0.1:{runner.addresses[0][1]}",
        broker_timeout_seconds=5.0,
        failures_per_address=0,
        requests_per_key=0,
        requests_per_tenant=0,
        creates_per_tenant=0,
    )
    rooms = rooms_for(settings)
    closing.push_async_callback(rooms.close)
    keys = await (await bus.bucket("keys")).watch()
    closing.push_async_callback(keys.close)
    flows = await (await bus.bucket("flows")).watch()
    closing.push_async_callback(flows.close)
    stop = asyncio.Event()
    dependencies = wire(
        settings,
        bus=bus,
        database=database,
        rooms=rooms,
        keys=keys,
        flows=flows,
        deployment=DEPLOYMENT,
        stopping=stop,
    )
    app, port = create_app(dependencies), free_port()
    serving = asyncio.create_task(serve_http(app, "127.0.0.1", port, stop))

    async def end() -> None:
        stop.set()
        await asyncio.wait_for(serving, 15)

    closing.push_async_callback(end)
    stack = Stack(f"http://127.0.0.1:{port}", bus, database, dependencies, app)
    async with asyncio.timeout(SECONDS), httpx.AsyncClient() as client:
        while True:
            try:
                assert (await client.get(f"{stack.url}/health/live")).status_code == 200
            except httpx.ConnectError:
                await asyncio.sleep(0.01)
            else:
                return stack


async def _fill(stack: Stack) -> None:
    """Store something of the victim in everything, and the keys of the intruder."""
    await stack.put_key("victim-key", VICTIM, EVERY)
    stack.key_id = await stack.put_key(f"key-{CANARY}", VICTIM, ("sessions:read",))
    await stack.put_key("intruder-key", INTRUDER, EVERY)
    for scope in EVERY:
        await stack.put_key(f"intruder-{scope}", INTRUDER, (scope,))
    past = datetime.now(UTC) - timedelta(days=1)
    await stack.put_key("revoked", VICTIM, EVERY, revoked_at=past)
    await stack.put_key("expired", VICTIM, EVERY, expires_at=past)
    async with as_key(stack, "victim-key") as victim:
        for number in (1, 2):
            source = f"id: {FLOW}\nname: {CANARY} {number}\n"
            await _made(victim.put(f"/v1/flows/{FLOW}", content=source, headers=YAML))
        await _made(victim.post("/v1/keys", json={"name": CANARY, "scopes": ["sessions:read"]}))
        created = await _made(
            victim.post(
                "/v1/sessions",
                headers={"Idempotency-Key": IDEMPOTENCY_KEY},
                json={
                    "flow_id": FLOW,
                    "user_id": USER,
                    "conversation_id": CONVERSATION,
                    "metadata": {"order": CANARY, "tenant": INTRUDER},
                    "variables": {"guest": CANARY},
                },
            )
        )
        stack.session_id = created["session_id"]
        await _made(victim.post("/v1/sessions", json={"agent_name": "mine", "user_id": CANARY}))
        await _made(victim.post(f"/v1/flows/{FLOW}/test-audio", json={"source": f"id: {FLOW}\n# {CANARY}\n"}))
        await stack.publish(VICTIM, stack.session_id, *CALL)
        await until(lambda: _has_views(stack, victim))
        for path in ("/v1/sessions?limit=1", "/v1/keys?limit=1", "/v1/audit?limit=1"):
            stack.cursors[path.partition("?")[0]] = (await victim.get(path)).json()["next"]
        for path in ("turns", "events"):
            listed = await victim.get(f"/v1/sessions/{stack.session_id}/{path}?limit=1")
            stack.cursors[path] = listed.json()["next"]
        revisions = await victim.get(f"/v1/flows/{FLOW}/revisions?limit=1")
        stack.cursors["revisions"] = revisions.json()["next"]
        stack.cursors["/v1/events"] = (await victim.get("/v1/events?limit=1")).json()["next"]


YAML = {"Content-Type": "application/yaml"}
CALL: tuple[Event, ...] = (
    AgentJoined(job_id="AJ_test", worker_id="w", epoch="AJ_test", identity=f"agent-{CANARY}"),
    AgentReady(greeting=CANARY, ready_ms=12.0),
    TurnSaved(turn=1, agent_id="host", user_text=CANARY, assistant_text=CANARY),
    ToolStarted(call_id="c", name=CANARY, arguments=f'{{"guest":"{CANARY}"}}'),
    ToolCompleted(call_id="c", name=CANARY, status="done", output=CANARY),
    TurnSaved(turn=2, agent_id="host", user_text=CANARY, assistant_text=CANARY),
    LiveKitOther(name="x", webhook_id="w", room=CANARY, payload={"text": CANARY}),
)


async def _has_views(stack: Stack, victim: httpx.AsyncClient) -> bool:
    path = f"/v1/sessions/{stack.session_id}"
    turns, timeline = await victim.get(f"{path}/turns"), await victim.get(f"{path}/timeline")
    listed = await victim.get("/v1/sessions")
    daily = await victim.get("/v1/analytics/daily")
    return (
        len(turns.json().get("turns", ())) == 2
        and CANARY in timeline.text
        and len(listed.json()["sessions"]) == 2
        and len(daily.json().get("days", ())) > 0
    )


async def _made(sending: Any) -> dict[str, Any]:
    response = await sending
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()
    return found


def as_key(stack: Stack, secret: str | None) -> httpx.AsyncClient:
    """Return a client with a key, or without one."""
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=SECONDS, verify=False)


async def until(condition: Any) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.02)


NOT_THERE = named_session_id(INTRUDER, "never made")
