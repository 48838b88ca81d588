"""Time travel: a session of 1,000 events read and folded, and the requests with `at`, beside the bare SQL.

The baseline is the bare read of the same rows, over the same pool, in turn with what it is compared with.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.deployment import deployment_of
from antiphon.chassis.http.server import serve_http
from antiphon.chassis.settings import load
from antiphon.chassis.telemetry import configure
from antiphon.contracts.envelope import Envelope, encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady, AgentStateChanged, UserStateChanged
from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.events.session import SessionDispatched, SessionRequested
from antiphon.contracts.events.turn import TurnSaved, TurnStarted, UserInputTranscribed
from antiphon.contracts.session import fold
from antiphon.contracts.subjects import partition_of
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies, wire
from antiphon.session_api.settings import ApiSettings

from .create import KEY, UNLIMITED, prepare
from .create_server import NoRooms
from .load import Connection
from .report import Report, Result, Servers

PASSES = 200
PORT = 18765
TARGET_MILLISECONDS = 10.0
LENGTHS = {"ses_00000000000000000000001000": 1_000, "ses_00000000000000000000010000": 10_000}
SHORT, LONG = LENGTHS
BARE = "select envelope from event_log where session_id = $1 and sequence <= $2 order by sequence"

Measured = Callable[[], Awaitable[object]]


async def run(servers: Servers, report: Report) -> None:
    """Write two sessions, then replay them in this process and over HTTP."""
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
    database = await Database.connect(servers.dsn)
    keys, flows = [await (await bus.bucket(name)).watch() for name in ("keys", "flows")]
    try:
        stop = asyncio.Event()
        dependencies = wire(
            settings,
            bus=bus,
            database=database,
            rooms=NoRooms(),
            keys=keys,
            flows=flows,
            deployment=await deployment_of(bus),
            stopping=stop,
        )
        report.step("write a session of 1,000 and one of 10,000 events", seconds=60)
        for session_id, length in LENGTHS.items():
            await _write(database, events_of_a_call(session_id, length))
        await database.pool.execute("vacuum analyze event_log")
        report.step(f"replay, {PASSES} times", seconds=60)
        for result in await _replays(database, dependencies):
            report.row(result)
        report.step("ask over HTTP", seconds=120)
        serving = asyncio.create_task(serve_http(create_app(dependencies), "127.0.0.1", PORT, stop))
        for result in await _requests(database):
            report.row(result)
        stop.set()
        await serving
    finally:
        await keys.close()
        await flows.close()
        await database.close()
        await bus.close()


def events_of_a_call(session_id: str, length: int) -> list[Envelope]:
    """Return the events of a call with as many turns as the length allows, before they are committed."""
    bodies: list[Event] = [
        SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=session_id),
        SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon"),
        AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent-AJ_1"),
        ParticipantConnected(identity="ada", sid="PA_1", kind="standard"),
        AgentReady(greeting="Good evening, this is the table desk.", ready_ms=640.0),
    ]
    text, answer = "i would like to book a table for two on friday evening", "Gladly. At what time?"
    turn = 0
    while len(bodies) < length:
        turn += 1
        bodies += [
            UserStateChanged(old_state="listening", new_state="speaking"),
            UserInputTranscribed(transcript=text),
            TurnStarted(turn=turn, epoch="AJ_1", agent_id="host", user_text=text, language="en"),
            AgentStateChanged(old_state="listening", new_state="thinking"),
            AgentStateChanged(old_state="thinking", new_state="speaking"),
            TurnSaved(
                turn=turn,
                epoch="AJ_1",
                agent_id="host",
                user_text=text,
                assistant_text=answer,
                assistant_text_generated=answer,
                metrics={"e2e_latency": 0.61, "llm_node_ttft": 0.2},
            ),
        ]
    began = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    return [
        seal(
            body,
            id=f"{session_id}:{number}",
            session_id=session_id,
            tenant="default",
            producer="benchmark",
            producerseq=number,
            time=began + timedelta(seconds=number),
        )
        for number, body in enumerate(bodies[:length], start=1)
    ]


async def _write(database: Database, envelopes: list[Envelope]) -> None:
    first = await database.pool.fetchval("select coalesce(max(position), 0) from event_log")
    await database.pool.executemany(
        """insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
               occurred_at, envelope)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
        [
            (
                e.subject,
                number,
                partition_of(e.subject),
                first + number,
                e.tenant,
                e.id,
                e.type,
                e.version,
                e.time,
                encode(e).decode(),
            )
            for number, e in enumerate(envelopes, start=1)
        ],
    )


async def _replays(database: Database, dependencies: Dependencies) -> list[Result]:
    history = dependencies.history
    recorded = await dependencies.log.read_session("default", SHORT)

    async def folded() -> None:
        fold(SHORT, "default", recorded)

    measured: list[tuple[str, Measured, int]] = [
        ("replay of 1,000 events: read and fold", lambda: history.session("default", SHORT, 1_000), 1_000),
        ("the fold of 1,000 events alone", folded, 1_000),
        ("replay of 500 events: read and fold", lambda: history.session("default", SHORT, 500), 500),
        (
            "turns of 1,000 events: read and fold",
            lambda: history.turns("default", SHORT, 1_000, 0, 50),
            1_000,
        ),
    ]
    return [
        _result(name, *await _in_turn(replay, _bare(database, SHORT, count), PASSES), TARGET_MILLISECONDS)
        for name, replay, count in measured
    ]


async def _requests(database: Database) -> list[Result]:
    connection = await _opened()
    middle = f"/v1/sessions/{SHORT}?at=500"
    at_time = f"/v1/sessions/{SHORT}?at_time=2026-11-21T09:38:20Z"
    measured = [
        ("GET ?at=500 of 1,000 events, p50", get(middle), 200, SHORT, 500),
        ("GET ?at=1000 of 1,000 events, p50", get(f"/v1/sessions/{SHORT}?at=1000"), 200, SHORT, 1_000),
        ("GET ?at=500 with If-None-Match, p50", get(middle, "If-None-Match: *"), 304, SHORT, 500),
        ("GET ?at_time= after 500 of 1,000 events, p50", get(at_time), 200, SHORT, 500),
        ("GET turns?at=500, p50", get(f"/v1/sessions/{SHORT}/turns?at=500"), 200, SHORT, 500),
        ("GET ?at=10000 of 10,000 events, p50", get(f"/v1/sessions/{LONG}?at=10000"), 200, LONG, 10_000),
    ]
    results = []
    for name, request, status, session_id, count in measured:
        passes = PASSES if count <= 1_000 else PASSES // 10
        asked = partial(_ask, connection, request, status)
        took, bare = await _in_turn(asked, _bare(database, session_id, count), passes)
        results.append(_result(name, took, bare, TARGET_MILLISECONDS if count <= 1_000 else None))
    connection.close()
    return results


def get(path: str, *headers: str) -> bytes:
    """Return the bytes of a GET request."""
    lines = (f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {KEY}", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _ask(connection: Connection, request: bytes, status: int) -> None:
    answered, body = await connection.send(request)
    if answered != status:
        raise RuntimeError(f"{answered}: {body.decode()}")


async def _opened() -> Connection:
    async with asyncio.timeout(30):
        while True:
            try:
                return await Connection.open(PORT)
            except OSError:
                await asyncio.sleep(0.01)


def _bare(database: Database, session_id: str, count: int) -> Measured:
    return lambda: database.pool.fetch(BARE, session_id, count)


async def _in_turn(first: Measured, second: Measured, passes: int) -> tuple[float, float]:
    """Return the median milliseconds of two calls that take turns."""
    took: tuple[list[float], list[float]] = [], []
    for _ in range(passes):
        for call, seconds in zip((first, second), took, strict=True):
            began = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - began)
    return 1e3 * median(took[0]), 1e3 * median(took[1])


def _result(name: str, took: float, bare: float, target: float | None) -> Result:
    return Result(
        name=name, value=took, unit="ms", baseline_name="ms, the bare SQL", baseline=bare, target=target
    )
