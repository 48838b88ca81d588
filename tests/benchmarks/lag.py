"""Lag: the time until an event is committed and announced, and until it is visible in the session view."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import quantiles

import msgspec
from msgspec import UNSET

from antiphon.chassis.bus import Bus, GroupCommit, Subscription, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import committed_filter

from .ingest import conversation
from .report import Report, Result, Servers

RATE = 1_000  # events a second
SECONDS = 10
WARM_UP = 1_000  # events that are not counted
SAMPLED = 50  # one event in 50 is polled for in the view: polling slows down what is measured
POLL_SECONDS = 0.0005

_announcement = msgspec.json.Decoder(list[Envelope])


async def run(servers: Servers, report: Report) -> None:
    """Publish at a steady rate to a persistence process; report the lags."""
    report.step("start persistence", seconds=90)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=4)
    try:
        await bus.ensure()
        async with _persistence(servers.nats_url, servers.dsn):
            report.step(f"publish {RATE} events a second for {SECONDS} s", seconds=120)
            committed, visible = await _measure(bus, database)
            report.step("stop persistence", seconds=60)
    finally:
        await bus.close()
        await database.close()
    for result in (
        _result("published -> committed and announced, p50", committed, 50, target=3.0),
        _result("published -> committed and announced, p99", committed, 99, target=50.0),
        _result("published -> visible in the session view, p50", visible, 50, target=6.0),
        _result("published -> visible in the session view, p99", visible, 99, target=None),
    ):
        report.row(result)


def _result(name: str, seconds: list[float], percentile: int, target: float | None) -> Result:
    value = quantiles(seconds, n=100)[percentile - 1] * 1000
    return Result(name=f"{name} at {RATE} ev/s", value=value, unit="ms", target=target)


async def _measure(bus: Bus, database: Database) -> tuple[list[float], list[float]]:
    lags = _Lags(database)
    subscription = await bus.subscribe(committed_filter())
    collecting = asyncio.create_task(lags.collect(subscription))
    try:
        await _publish(bus, lags)
        async with asyncio.timeout(30):
            await lags.complete.wait()
            await asyncio.gather(*lags.polling)
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        await subscription.close()
    return lags.committed[WARM_UP:], lags.visible


async def _publish(bus: Bus, lags: "_Lags") -> None:
    group = GroupCommit(bus)
    publishing: set[asyncio.Task[object]] = set()
    started = time.perf_counter()
    for number, envelope in enumerate(conversation(RATE * SECONDS + WARM_UP)):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        out = outgoing(envelope)
        lags.published[envelope.id] = time.perf_counter()
        task: asyncio.Task[object] = asyncio.create_task(group.publish(out))
        publishing.add(task)
        task.add_done_callback(publishing.discard)
    await asyncio.gather(*publishing)


class _Lags:
    """The lags of all announcements, and of a sample of the events in the view."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.published: dict[str, float] = {}
        self.committed: list[float] = []
        self.visible: list[float] = []
        self.polling: set[asyncio.Task[None]] = set()
        self.complete = asyncio.Event()

    async def collect(self, subscription: Subscription) -> None:
        async for _, payload in subscription:
            now = time.perf_counter()
            for envelope in _announcement.decode(payload):
                self.committed.append(now - self.published[envelope.id])
                if len(self.committed) > WARM_UP and len(self.committed) % SAMPLED == 0:
                    self.polling.add(asyncio.create_task(self._poll_view(envelope)))
            if len(self.committed) == RATE * SECONDS + WARM_UP:
                self.complete.set()

    async def _poll_view(self, envelope: Envelope) -> None:
        query = "select sequence from sessions where session_id = $1"
        seen = 0
        assert envelope.sequence is not UNSET
        while seen < envelope.sequence:
            await asyncio.sleep(POLL_SECONDS)
            seen = await self._database.pool.fetchval(query, envelope.subject) or 0
        self.visible.append(time.perf_counter() - self.published[envelope.id])


@asynccontextmanager
async def _persistence(nats_url: str, dsn: str) -> AsyncIterator[None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": nats_url,
        "ANTIPHON_POSTGRES_DSN": dsn,
        "ANTIPHON_PERSISTENCE_HEALTH_PORT": str(port),
        "ANTIPHON_LOG_LEVEL": "warning",
    }
    # not asyncio's: uvloop detects the end of a child only in the first loop of a process
    process = subprocess.Popen([sys.executable, "-m", "antiphon.persistence", "run"], env=environment)  # noqa: ASYNC220
    try:
        await _ready(port)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _ready(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
                answer = await reader.readline()
                writer.close()
            except OSError:
                answer = b""
            if b"200" in answer:
                return
            await asyncio.sleep(0.1)
