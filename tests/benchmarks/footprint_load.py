"""The load of the benchmark `footprint`: events, webhooks, and pages of sessions."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from livekit import api

from antiphon.chassis.bus import Bus, GroupCommit, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.supervisor.state import Addresses
from antiphon.contracts.ids import named_session_id

from .history import TENANT, calls
from .load import Connection, post
from .persistence import until

SECONDS = 5.0
CONNECTIONS = 16
CALLS = 220  # 91 events each
COMMIT_SECONDS = 60.0
ALL_SEEN = "select count(*) >= $1 from event_log where tenant = 'default' and session_id = any($2::text[])"
WEBHOOK_PATH = "/api/v1/webhooks/livekit"

Load = Callable[[], Awaitable[tuple[int, float]]]  # how many, in how many seconds


def load_of(where: Addresses) -> Iterator[tuple[str, float, Load]]:
    """Yield what loads each service, and the seconds that it takes at most."""
    yield "persistence", COMMIT_SECONDS, partial(_commit, where)
    yield "session-api", SECONDS, partial(_requests, where.api_url, _page(where))
    yield "webhook-ingest", SECONDS, partial(_requests, where.webhooks_url, _webhook(where))


async def _commit(where: Addresses) -> tuple[int, float]:
    """Publish the events of many calls, and wait until all are in the log."""
    made = list(calls(CALLS))
    sessions = [named_session_id(TENANT, f"benchmark {number}") for number in range(CALLS)]
    bus = await Bus.connect(where.nats_url, name="footprint")
    database = await Database.connect(str(where.postgres_dsn), max_size=1)
    began = time.perf_counter()
    try:
        group = GroupCommit(bus)
        for start in range(0, len(made), 500):
            await asyncio.gather(*(group.publish(outgoing(each)) for each in made[start : start + 500]))
        async with asyncio.timeout(COMMIT_SECONDS):
            await until(database, ALL_SEEN, len(made), sessions)
    finally:
        await bus.close()
        await database.close()
    return len(made), time.perf_counter() - began


def _page(where: Addresses) -> bytes:
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {where.api_key}\r\n\r\n"
    return f"GET /v1/sessions?limit=20 HTTP/1.1\r\n{head}".encode()


def _webhook(where: Addresses) -> bytes:
    session = named_session_id(TENANT, "benchmark 0")
    metadata = json.dumps({"session_id": session, "tenant": TENANT})
    room = {"sid": "RM_1", "name": session, "metadata": metadata}
    body = json.dumps(
        {"event": "room_started", "id": "EV_1", "createdAt": str(int(time.time())), "room": room}
    ).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    token = api.AccessToken(str(where.livekit_api_key), str(where.livekit_api_secret)).with_sha256(digest)
    request = post(WEBHOOK_PATH, body, token.to_jwt())
    return request.replace(b"Bearer ", b"").replace(b"application/json", b"application/webhook+json")


async def _requests(url: str, request: bytes) -> tuple[int, float]:
    port = urlsplit(url).port
    assert port is not None
    deadline = time.perf_counter() + SECONDS
    began = time.perf_counter()
    counts = await asyncio.gather(*(_repeat(port, request, deadline) for _ in range(CONNECTIONS)))
    return sum(counts), time.perf_counter() - began


async def _repeat(port: int, request: bytes, deadline: float) -> int:
    connection = await Connection.open(port)
    done = 0
    while time.perf_counter() < deadline:
        status, body = await connection.send(request)
        if status != 200:
            raise RuntimeError(f"{status}: {body.decode()}")
        done += 1
    connection.close()
    return done
