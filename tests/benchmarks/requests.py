"""Requests: what authentication, limits and validation add to a bare FastAPI route, without I/O."""

import asyncio
import os
import time
from statistics import median
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Scope

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.deployment import deployment_of
from antiphon.chassis.settings import load
from antiphon.chassis.telemetry import configure
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import wire
from antiphon.session_api.sessions.schemas import CreateRequest
from antiphon.session_api.settings import ApiSettings

from .create import KEY, UNLIMITED, prepare
from .create_server import NoRooms
from .report import Report, Result, Servers

REQUESTS = 500  # in a row, of each kind
PASSES = 9
UNKNOWN_FLOW = b'{"flow_id":"unknown","user_id":"ada","metadata":{"order":"A-17"}}'


async def run(servers: Servers, report: Report) -> None:
    """Call each app in turn; the rows are medians of passes, less the bare route in the same pass."""
    report.step("wire session-api", seconds=60)
    await prepare(servers.nats_url)
    os.environ |= UNLIMITED | {
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
        "ANTIPHON_LOG_LEVEL": "error",  # the log line of a request is not what is measured
    }
    settings = load(ApiSettings)
    configure("benchmark", settings)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, min_size=0)
    keys, flows = [await (await bus.bucket(name)).watch() for name in ("keys", "flows")]
    try:
        dependencies = wire(
            settings,
            bus=bus,
            database=database,
            rooms=NoRooms(),
            keys=keys,
            flows=flows,
            deployment=await deployment_of(bus),
            stopping=asyncio.Event(),
        )
        report.step(f"{PASSES} passes of {REQUESTS} requests of each kind", seconds=60)
        for name, added, bare in await _measure(create_app(dependencies)):
            report.row(Result(name=name, value=added, unit="µs", baseline_name="bare route", baseline=bare))
    finally:
        await keys.close()
        await flows.close()
        await database.close()
        await bus.close()


def _bare() -> FastAPI:
    app = FastAPI()

    @app.get("/v1/flows")
    async def flows() -> dict[str, Any]:
        return {"flows": [], "next": None}

    @app.post("/v1/sessions")
    async def create(body: CreateRequest) -> dict[str, Any]:
        return {"flow_id": body.flow_id}

    return app


async def _measure(ours: ASGIApp) -> list[tuple[str, float, float]]:
    bare = _bare()
    kinds = (
        ("authentication and limits: added to a GET", _scope("GET", "/v1/flows"), b"", 200),
        (
            "authentication, limits, validation: added to a POST",
            _scope("POST", "/v1/sessions"),
            UNKNOWN_FLOW,
            404,
        ),
        ("refused without a key: added to a GET", _scope("GET", "/v1/flows", key=None), b"", 401),
    )
    times: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in kinds}
    for number in range(PASSES + 1):
        for name, scope, body, status in kinds:
            taken = (
                await _microseconds(bare, scope, body, 200),
                await _microseconds(ours, scope, body, status),
            )
            if number:  # the first pass warms up
                times[name].append(taken)
    return [
        (name, median(ours - bare for bare, ours in taken), median(bare for bare, _ in taken))
        for name, taken in times.items()
    ]


def _scope(method: str, path: str, key: str | None = KEY) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


async def _microseconds(app: ASGIApp, scope: Scope, body: bytes, expected: int) -> float:
    statuses: set[int] = set()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    began = time.perf_counter()
    for _ in range(REQUESTS):
        await app({**scope, "state": {}}, receive, send)
    taken = (time.perf_counter() - began) / REQUESTS * 1e6
    if statuses != {expected}:
        raise RuntimeError(f"{scope['method']} {scope['path']}: {statuses} instead of {expected}")
    return taken
