"""Streams: from an announced commit to its bytes at 1,000 readers, against a bare fan-out to sockets."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any

import msgspec
import psutil

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, encode, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import committed_subject, partition_of

from .create import KEY, prepare, serving
from .report import Report, Result, Servers

READERS = 1_000
EVENTS = 20  # announced one after the other, each to all readers
SPREAD_SECONDS = 0.25  # between them
TARGET_MS = 100.0

INSERT = """
insert into event_log
    (session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope)
values ($1, $2, $3, $4, 'default', $5, 'turn.saved', 1, now(), $6)
"""


async def run(servers: Servers, report: Report) -> None:
    """Load a bare fan-out, then session-api with one session and with a session for each reader."""
    report.step("start session-api and a bare fan-out", seconds=90)
    await prepare(servers.nats_url)
    variables = {
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=2)
    try:
        async with serving(("tests.benchmarks.sse_server",), variables) as (port, process):
            report.step(f"{READERS} readers of a bare fan-out", seconds=60)
            bare, bare_kib = await _measure(port, process, ["bare"] * READERS, _Announcer(bus, database))
        async with serving(("antiphon.session_api",), variables) as (port, process):
            one, kib = await _of_sessions(1, port, process, report, bus, database)
            many, _ = await _of_sessions(READERS, port, process, report, bus, database)
    finally:
        await bus.close()
        await database.close()
    for name, times in (("of one session", one), ("of a session each", many)):
        for percentile, target in ((50, None), (99, TARGET_MS)):
            report.row(
                Result(
                    name=f"commit announced -> at {READERS} readers {name}, p{percentile}",
                    value=_percentile(times, percentile),
                    unit="ms",
                    baseline_name="bare fan-out",
                    baseline=_percentile(bare, percentile),
                    target=target,
                )
            )
    report.row(
        Result(
            name="memory of a stream", value=kib, unit="KiB", baseline_name="bare fan-out", baseline=bare_kib
        )
    )


async def _of_sessions(
    count: int, port: int, process: int, report: Report, bus: Bus, database: Database
) -> tuple[list[float], float]:
    report.step(f"{READERS} readers of {count} sessions", seconds=90)
    announcer = _Announcer(bus, database)
    sessions = [f"ses_{count:06d}{number:020d}" for number in range(count)]
    for session_id in sessions:
        await announcer.commit(session_id)
    readers = [sessions[number % count] for number in range(READERS)]
    return await _measure(port, process, readers, announcer)


async def _measure(
    port: int, process: int, sessions: Sequence[str], announcer: "_Announcer"
) -> tuple[list[float], float]:
    """Return the milliseconds of every event at every reader, and the memory of a stream in KiB."""
    before = psutil.Process(process).memory_info().rss
    readers: list[_Reader] = []
    for start in range(0, len(sessions), 50):
        readers += await asyncio.gather(*(_Reader.open(port, each) for each in sessions[start : start + 50]))
    kib = (psutil.Process(process).memory_info().rss - before) / len(readers) / 1024
    times: list[float] = []
    for number in range(EVENTS + 1):
        arrived = [reader.expect() for reader in readers]
        began = time.perf_counter()
        for session_id in dict.fromkeys(sessions):
            await announcer.announce(session_id)
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*arrived)
        if number:  # the first one warms up
            times += [(end - began) * 1000 for end in ends]
        await asyncio.sleep(SPREAD_SECONDS)
    for reader in readers:
        reader.close()
    return times, kib


def _percentile(times: list[float], percentile: int) -> float:
    return median(times) if percentile == 50 else quantiles(times, n=100)[percentile - 1]


class _Announcer:
    """Commits events of a session, and announces them as persistence does."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._last: dict[str, int] = {}

    async def commit(self, session_id: str) -> Envelope:
        """Insert the next event."""
        envelope = self._next(session_id)
        published = msgspec.structs.replace(envelope, sequence=msgspec.UNSET, position=msgspec.UNSET)
        values: tuple[Any, ...] = (
            session_id,
            envelope.sequence,
            partition_of(session_id),
            time.time_ns(),
            envelope.id,
            encode(published).decode(),
        )
        await self._database.pool.execute(INSERT, *values)
        return envelope

    async def announce(self, session_id: str) -> None:
        """Announce the next event; whether it is committed matters only to readers that miss it."""
        payload = msgspec.json.encode([self._next(session_id)])
        await self._bus.announce(committed_subject("default", session_id), payload)

    def _next(self, session_id: str) -> Envelope:
        sequence = self._last[session_id] = self._last.get(session_id, 0) + 1
        turn = TurnSaved(
            turn=sequence,
            agent_id="host",
            user_text="a table for two, tomorrow at seven",
            assistant_text="A table for two, tomorrow at seven. Shall I book it?",
            metrics={"ms": 1},
        )
        envelope = seal(
            turn,
            id=f"{session_id}:{sequence}",
            session_id=session_id,
            tenant="default",
            producer="benchmark",
            producerseq=sequence,
            time=datetime.now(UTC),
        )
        return committed(envelope, sequence, sequence)


class _Reader(asyncio.Protocol):
    """A stream: it notes when the next event arrives, and reads nothing of it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opened = loop.create_future()
        self._arrived: asyncio.Future[float] | None = None
        self._head = b""

    @classmethod
    async def open(cls, port: int, session_id: str) -> "_Reader":
        """Open a stream and wait for what is in it already."""
        loop = asyncio.get_running_loop()
        transport, reader = await loop.create_connection(cls, "127.0.0.1", port)
        request = (
            f"GET /v1/sessions/{session_id}/events HTTP/1.1\r\nHost: x\r\n"
            f"Accept: text/event-stream\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        )
        transport.write(request.encode())
        async with asyncio.timeout(60):
            await reader._opened
        return reader

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Note the time."""
        if not self._opened.done():
            self._head += data
            if b"id: 1\n" in self._head:
                self._opened.set_result(None)
        elif self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(time.perf_counter())

    def expect(self) -> "asyncio.Future[float]":
        """Return the time of the next arrival."""
        self._arrived = asyncio.get_running_loop().create_future()
        return self._arrived

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()
