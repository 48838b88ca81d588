"""A running session-api on real NATS and real Postgres; LiveKit is a small HTTP server that can misbehave."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web
from livekit import api as livekit_api
from livekit.protocol.models import Room

from antiphon.chassis.bus import Bus, WatchedBucket, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.process import serve_http
from antiphon.chassis.testing import InMemoryBus
from antiphon.contracts.envelope import Envelope, committed, decode, encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.session import fold
from antiphon.contracts.subjects import ALL_EVENTS, committed_subject, partition_of, session_filter
from antiphon.contracts.views import SessionView
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies
from antiphon.session_api.livekit import LiveKit
from antiphon.session_api.settings import ApiSettings
from antiphon.session_api.wiring import wire

API_KEY = "devkey"
API_SECRET = "a-secret-of-at-least-32-characters!!"
BOTH = ("sessions:read", "sessions:write")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class FakeLiveKit:
    """The room service of LiveKit, for the faults that a real one cannot be made to show."""

    url: str = ""
    rooms: dict[str, Any] = field(default_factory=dict)
    created: list[Any] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    status: int = 200
    delay_seconds: float = 0.0
    on_create: Callable[[], object] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        raw = await request.read()
        await asyncio.sleep(self.delay_seconds)
        if self.status != 200:
            codes = {401: "unauthenticated", 503: "unavailable"}
            body = {"code": codes.get(self.status, "internal"), "msg": "as the test wants it"}
            return web.json_response(body, status=self.status)
        token = request.headers["authorization"].removeprefix("Bearer ")
        claims = livekit_api.TokenVerifier(API_KEY, API_SECRET).verify(token)
        assert claims.video is not None
        assert claims.video.room_create
        method = request.match_info["method"]
        return self._create(raw) if method == "CreateRoom" else self._delete(raw)

    def _create(self, raw: bytes) -> web.Response:
        wish = livekit_api.CreateRoomRequest.FromString(raw)
        self.created.append(wish)
        sid = self.rooms.setdefault(wish.name, f"RM_{len(self.rooms)}")
        if self.on_create is not None:
            self.on_create()
        return _protobuf(Room(name=wish.name, sid=sid))

    def _delete(self, raw: bytes) -> web.Response:
        name = livekit_api.DeleteRoomRequest.FromString(raw).room
        self.deleted.append(name)
        if self.rooms.pop(name, None) is None:
            return web.json_response({"code": "not_found", "msg": "no such room"}, status=404)
        return _protobuf(livekit_api.DeleteRoomResponse())


def _protobuf(message: Any) -> web.Response:
    return web.Response(body=message.SerializeToString(), content_type="application/protobuf")


@pytest.fixture
async def livekit() -> AsyncIterator[FakeLiveKit]:
    """LiveKit's room service over HTTP; `status` and `delay_seconds` make it misbehave."""
    fake = FakeLiveKit()
    application = web.Application()
    application.router.add_post("/twirp/livekit.RoomService/{method}", fake.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"ws://127.0.0.1:{port}"
    yield fake
    await runner.cleanup()


async def _put_key(bus: Bus, secret: str, tenant: str = "default", scopes: tuple[str, ...] = BOTH) -> str:
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


Put = Callable[..., Awaitable[str]]


@pytest.fixture
def put_key(bus: Bus) -> Put:
    """Put an API key into its bucket; the key is its own name."""
    return partial(_put_key, bus)


@pytest.fixture
def put_flow(bus: Bus) -> Put:
    """Put a flow's revision into its bucket."""
    return partial(_put_flow, bus)


@asynccontextmanager
async def _buckets(bus: Bus) -> AsyncIterator[tuple[WatchedBucket, WatchedBucket]]:
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


@pytest.fixture
async def buckets(bus: Bus) -> AsyncIterator[tuple[WatchedBucket, WatchedBucket]]:
    """The watched `keys` and `flows`, with keys `reader`, `writer` and `foreign`, and the flow `booking`."""
    async with _buckets(bus) as watched:
        yield watched


def settings_for(livekit_url: str, **changes: Any) -> ApiSettings:
    values: dict[str, Any] = {
        "postgres_dsn": "postgresql://unused",
        "livekit_url": livekit_url,
        "livekit_api_key": API_KEY,
        "livekit_api_secret": API_SECRET,
        "livekit_timeout_seconds": 1.0,
        "broker_timeout_seconds": 1.0,
        **changes,
    }
    return ApiSettings(**values)


@dataclass
class Running:
    """A session-api that serves on loopback."""

    url: str
    dependencies: Dependencies
    stop: asyncio.Event


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(
    bus: Bus, database: Database, livekit: FakeLiveKit, buckets: tuple[WatchedBucket, WatchedBucket]
) -> AsyncIterator[Start]:
    """Start a session-api with changed settings."""
    stops: list[tuple[asyncio.Event, asyncio.Task[None], LiveKit]] = []

    async def starting(**changes: Any) -> Running:
        settings = settings_for(livekit.url, **changes)
        stop = asyncio.Event()
        rooms = LiveKit(
            settings.livekit_url,
            settings.livekit_api_key,
            settings.livekit_api_secret,
            agent_name=settings.agent_name,
            timeout_seconds=settings.livekit_timeout_seconds,
        )
        keys, flows = buckets
        dependencies = wire(
            settings, bus=bus, database=database, rooms=rooms, keys=keys, flows=flows, stopping=stop
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
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.fixture
async def running(start: Start) -> Running:
    """A session-api with the settings of tests."""
    return await start()


@pytest.fixture
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that may read and write."""
    headers = {"Authorization": "Bearer writer"}
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=15) as client:
        yield client


@pytest.fixture
async def edge() -> AsyncIterator[httpx.AsyncClient]:
    """A client for what is refused before it reaches a server: the bus is in memory, the rest nowhere."""
    nowhere = "postgresql://127.0.0.1:1/nowhere"
    settings = settings_for("ws://127.0.0.1:1", postgres_dsn=nowhere)
    bus, stop = InMemoryBus(), asyncio.Event()
    await bus.ensure()
    database = await Database.connect(nowhere, min_size=0)
    rooms = LiveKit("ws://127.0.0.1:1", API_KEY, API_SECRET, agent_name="antiphon", timeout_seconds=1)
    headers = {"Authorization": "Bearer writer"}
    async with _buckets(bus) as (keys, flows):
        dependencies = wire(
            settings, bus=bus, database=database, rooms=rooms, keys=keys, flows=flows, stopping=stop
        )
        transport = httpx.ASGITransport(create_app(dependencies))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            yield client
        assert [incoming async for incoming in bus.read(ALL_EVENTS)] == [], "it was not refused"
    await rooms.close()
    await database.close()


class Persistence:
    """Commit events as persistence does: event log, session view, announcement."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._committed: dict[str, list[Envelope]] = {}

    async def commit(
        self, session_id: str, *events: Event, tenant: str = "default", at: datetime | None = None
    ) -> list[Envelope]:
        """Publish events of a session and commit all that is not committed yet."""
        for number, event in enumerate(events):
            envelope = seal(
                event,
                id=f"{session_id}:test:{len(self._committed.get(session_id, [])) + number}",
                session_id=session_id,
                tenant=tenant,
                producer="test",
                producerseq=number,
                time=at or datetime.now(UTC),
            )
            await self._bus.publish(outgoing(envelope))
        return await self.catch_up(session_id, tenant)

    async def catch_up(self, session_id: str, tenant: str = "default") -> list[Envelope]:
        """Commit what the bus holds of a session and the log does not."""
        log = self._committed.setdefault(session_id, [])
        after = log[-1].position if log else 0
        assert isinstance(after, int)
        fresh: list[Envelope] = []
        async for incoming in self._bus.read(session_filter(tenant, session_id), after):
            sequence = len(log) + len(fresh) + 1
            fresh.append(committed(decode(incoming.payload), sequence, incoming.position))
        log += fresh
        await self._store(fresh)
        await self._view(session_id, tenant, log)
        announcement = b"[" + b",".join(map(encode, fresh)) + b"]"
        await self._bus.announce(committed_subject(tenant, session_id), announcement)
        return fresh

    async def _store(self, fresh: list[Envelope]) -> None:
        await self._database.pool.executemany(
            """insert into event_log (session_id, sequence, partition, position, tenant, event_id, type,
                   version, occurred_at, envelope)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
            [
                (
                    e.subject,
                    e.sequence,
                    partition_of(e.subject),
                    e.position,
                    e.tenant,
                    e.id,
                    e.type,
                    e.version,
                    e.time,
                    encode(e).decode(),
                )
                for e in fresh
            ],
        )

    async def _view(self, session_id: str, tenant: str, log: list[Envelope]) -> None:
        state = fold(session_id, tenant, log)
        of_state = [name for name in SessionView.__struct_fields__ if name != "state"]
        row: Mapping[str, Any] = {
            "state": msgspec.json.encode(state).decode(),
            **{name: getattr(state, name) for name in of_state},
        }
        names = ", ".join(row)
        values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        changes = ", ".join(f"{name} = excluded.{name}" for name in row)
        await self._database.pool.execute(
            f"insert into sessions ({names}) values ({values}) "
            f"on conflict (session_id) do update set {changes}",
            *row.values(),
        )


@pytest.fixture
def persistence(bus: Bus, database: Database) -> Persistence:
    """What persistence does, by hand and at once."""
    return Persistence(bus, database)


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Wait until a condition holds; fail after ten seconds."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():  # noqa: ASYNC110 - whatever the condition, nobody announces it
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def forget(bus: Bus) -> Callable[[], Awaitable[None]]:
    """Purge the stream, as its age limit does in time."""

    async def purge() -> None:
        await bus.connection.api("STREAM.PURGE.SESSIONS")

    return purge
