"""A running session-api on real NATS and real Postgres; LiveKit and persistence are fakes."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import nats
import pytest
from aiohttp import web
from tests.session_api.fake_livekit import API_KEY, API_SECRET, FakeLiveKit
from tests.session_api.fake_persistence import FakePersistence

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.http.server import serve_http
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.deployment import SECRET_BYTES, Deployment
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import ALL_EVENTS, PROBE
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies, wire
from antiphon.session_api.livekit import LiveKit
from antiphon.session_api.sessions import log_end, sse
from antiphon.session_api.settings import ApiSettings

DEPLOYMENT = Deployment(
    id="testonly", secret=b"s" * SECRET_BYTES, created_at=datetime(2026, 1, 1, tzinfo=UTC)
)
BOTH_SCOPES = ("sessions:read", "sessions:write")
UNREACHABLE_POSTGRES = "postgresql://127.0.0.1:1/unreachable"
UNREACHABLE_LIVEKIT = "ws://127.0.0.1:1"

Buckets = tuple[Mapping[str, bytes], Mapping[str, bytes]]
Put = Callable[..., Awaitable[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    """LiveKit's room service over HTTP; `status` and `delay_seconds` make it fail or stall."""
    fake = FakeLiveKit()
    application = web.Application()
    application.router.add_post("/twirp/livekit.RoomService/{method}", fake.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"ws://127.0.0.1:{port}"
    yield fake
    await runner.cleanup()


async def _put_key(
    bus: Bus, secret: str, tenant: str = "default", scopes: tuple[str, ...] = BOTH_SCOPES
) -> str:
    record = {"tenant": tenant, "name": secret, "scopes": scopes, "created_at": "2026-01-01T00:00:00Z"}
    digest = hashlib.sha256(secret.encode()).hexdigest()
    await (await bus.bucket("keys")).put(digest, json.dumps(record).encode())
    return digest


async def _put_flow(bus: Bus, flow_id: str, revision: int = 1, tenant: str = "default") -> str:
    record = {
        "flow_id": flow_id,
        "revision": revision,
        "name": flow_id.title(),
        "description": "a flow",
        "language": "en",
        "source": "flow: {}",
        "sha256": "0" * 64,
        "created_at": "2026-01-01T00:00:00Z",
    }
    name = f"{tenant}.{flow_id}.{revision}"
    await (await bus.bucket("flows")).put(name, json.dumps(record).encode())
    return name


@pytest.fixture
def put_key(bus: Bus, request: pytest.FixtureRequest) -> Put:
    """A function that puts an API key into its bucket, where servers see it; the secret is also its name."""
    buckets: Buckets | None = None
    if "buckets" in request.fixturenames:
        buckets = request.getfixturevalue("buckets")

    async def put(*given: Any, **more: Any) -> str:
        digest = await _put_key(bus, *given, **more)
        stored = await (await bus.bucket("keys")).get(digest)
        async with asyncio.timeout(10):
            while buckets and buckets[0].get(digest) != stored:  # noqa: ASYNC110 - a mapping announces nothing
                await asyncio.sleep(0.005)
        return digest

    return put


@pytest.fixture
def put_flow(bus: Bus) -> Put:
    """A function that puts a flow revision into its bucket."""
    return partial(_put_flow, bus)


@pytest.fixture
async def buckets(bus: Bus) -> AsyncIterator[Buckets]:
    """The watched `keys` and `flows`, with keys `reader`, `writer` and `foreign`, and the flow `booking`."""
    await _put_key(bus, "writer")
    await _put_key(bus, "reader", scopes=("sessions:read",))
    await _put_key(bus, "foreign", tenant="other")
    await _put_flow(bus, "booking")
    await _put_flow(bus, "booking", 2)
    keys = await (await bus.bucket("keys")).watch()
    flows = await (await bus.bucket("flows")).watch()
    yield keys, flows
    await keys.close()
    await flows.close()


def settings_for(livekit_url: str, **changes: Any) -> ApiSettings:
    values: dict[str, Any] = {
        "postgres_dsn": UNREACHABLE_POSTGRES,
        "livekit_url": livekit_url,
        "livekit_api_key": API_KEY,
        "livekit_api_secret": API_SECRET,
        "livekit_timeout_seconds": 3.0,
        "broker_timeout_seconds": 1.0,
        **changes,
    }
    return ApiSettings(**values)


def rooms_for(settings: ApiSettings) -> LiveKit:
    return LiveKit(
        settings.livekit_url,
        settings.livekit_keys(),
        deployment=DEPLOYMENT.id,
        timeout_seconds=settings.livekit_timeout_seconds,
    )


@dataclass
class Running:
    """A session-api bound to loopback."""

    url: str
    dependencies: Dependencies
    stop: asyncio.Event


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(bus: Bus, database: Database, livekit: FakeLiveKit, buckets: Buckets) -> AsyncIterator[Start]:
    """A function that starts a session-api with changed settings, or with another `database`."""
    stops: list[tuple[asyncio.Event, asyncio.Task[None], LiveKit]] = []

    async def starting(**changes: Any) -> Running:
        used = changes.pop("database", database)
        settings = settings_for(livekit.url, **changes)
        stop, rooms = asyncio.Event(), rooms_for(settings)
        keys, flows = buckets
        dependencies = wire(
            settings,
            bus=bus,
            database=used,
            rooms=rooms,
            keys=keys,
            flows=flows,
            deployment=DEPLOYMENT,
            stopping=stop,
        )
        port = free_port()
        serving = asyncio.create_task(serve_http(create_app(dependencies), "127.0.0.1", port, stop))
        stops.append((stop, serving, rooms))
        await _listening(port)
        return Running(f"http://127.0.0.1:{port}", dependencies, stop)

    yield starting
    for stop, serving, rooms in stops:
        stop.set()
        await asyncio.wait_for(serving, 15)
        await rooms.close()


async def _listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.fixture
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of ended sessions wait a second, not ten, for late events of a room without an end."""
    for module in (sse, log_end):
        monkeypatch.setattr(module, "LATE_SECONDS", 1.0)


@pytest.fixture
async def running(start: Start) -> Running:
    """A session-api with the default settings of these tests."""
    return await start()


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that may read and write."""
    headers = {"Authorization": "Bearer writer"}
    # without TLS the certificates, which take 30 ms to load, are of no use
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=15, verify=False) as client:
        yield client


@pytest.fixture
async def rejecting(bus: Bus, buckets: Buckets) -> AsyncIterator[httpx.AsyncClient]:
    """A client for requests that must be rejected: no Postgres, no LiveKit, and nothing may be published."""
    settings = settings_for(UNREACHABLE_LIVEKIT)
    database = await Database.connect(settings.postgres_dsn, min_size=0)
    rooms = rooms_for(settings)
    keys, flows = buckets
    dependencies = wire(
        settings,
        bus=bus,
        database=database,
        rooms=rooms,
        keys=keys,
        flows=flows,
        deployment=DEPLOYMENT,
        stopping=asyncio.Event(),
    )
    transport = httpx.ASGITransport(create_app(dependencies))
    headers = {"Authorization": "Bearer writer"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client
    stored = [incoming.subject async for incoming in bus.read(ALL_EVENTS)]
    assert set(stored) <= {PROBE}, "the request was not rejected"
    await rooms.close()
    await database.close()


@pytest.fixture
async def session_id(client: httpx.AsyncClient) -> str:
    """A session that was just created."""
    created: dict[str, str] = (
        await client.post("/v1/sessions", json={"flow_id": "booking", "user_id": "ada"})
    ).json()
    return created["session_id"]


@pytest.fixture
def persistence(bus: Bus, database: Database) -> FakePersistence:
    """A fake persistence that commits when a test calls it."""
    return FakePersistence(bus, database)


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """A function that waits until a condition holds and fails after ten seconds."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110 - the condition may be anything
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def purge(nats_server: NatsServer) -> Callable[[], Awaitable[None]]:
    """A function that purges the stream, as its age limit does."""

    async def purge_stream() -> None:
        connection = await nats.connect(nats_server.url)
        await connection.jetstream().purge_stream(SESSIONS.name)
        await connection.close()

    return purge_stream
