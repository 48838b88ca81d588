"""The example is killed in the middle of its work and started again: each event is counted once."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fixtures.nats_servers import ConfiguredServer

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import PARTITIONS, PROBE

PROGRAM = Path(__file__).parents[2] / "examples" / "analytics_consumer" / "analytics_consumer.py"
SESSIONS, TURNS = 40, 30
DEADLINE_SECONDS = 90
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(nats_server: NatsServer, tmp_path: Path) -> Iterator[Start]:
    """Start the example as a process, with settings of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "ANTIPHON_NATS_URL": nats_server.url,
            "ANALYTICS_FILE": str(tmp_path / "analytics.sqlite"),
            **settings,
        }
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, str(PROGRAM), *arguments]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def call(number: int) -> list[Outgoing]:
    """Return the events of one call."""
    session_id = f"ses_{number:026d}"
    flow_id = "booking" if number % 2 else "support"
    events: list[Event] = [
        SessionRequested(flow_id=flow_id, flow_revision=1, user_id="ada", room=session_id),
        *(
            TurnSaved(turn=turn, epoch="AJ_1", agent_id="host", metrics={"e2e_latency": turn / 100})
            for turn in range(1, TURNS + 1)
        ),
        SessionClosed(
            reason=CloseReason.AGENT_ENDED, fault=FaultSide.NONE, duration_seconds=60.0, turns=TURNS
        ),
    ]
    return [
        outgoing(
            seal(
                event,
                id=f"{session_id}:{place}",
                session_id=session_id,
                tenant="default",
                producer="test",
                producerseq=place,
                time=NOW,
            )
        )
        for place, event in enumerate(events)
    ]


def counted(tmp_path: Path) -> tuple[int, int, int]:
    """Return the rows of each table; none before the file exists."""
    with sqlite3.connect(tmp_path / "analytics.sqlite") as store:
        try:
            calls, turns, endings = (
                store.execute(f"select count(*) from {table}").fetchone()[0]
                for table in ("calls", "turns", "endings")
            )
        except sqlite3.OperationalError:
            return 0, 0, 0
    return calls, turns, endings


async def until(tmp_path: Path, rows: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until there are so many rows in all."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while sum(counted(tmp_path)) < rows:
            assert process.poll() is None, (tmp_path / "log").read_text()
            await asyncio.sleep(0.05)


async def test_each_event_is_counted_once_also_when_it_is_killed(
    bus: Bus, start: Start, tmp_path: Path
) -> None:
    await bus.publish(Outgoing(PROBE, b"", "probe"))
    for number in range(SESSIONS):
        await bus.publish_many(call(number))
    events = SESSIONS * (TURNS + 2)

    for part in (1, 2):
        process = start()
        await until(tmp_path, events * part // 4, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert sum(counted(tmp_path)) < events, "killed after the end proves nothing"
    process = start()
    await until(tmp_path, events, process)
    await bus.publish_many(call(SESSIONS))  # the next call
    await until(tmp_path, events + TURNS + 2, process)
    process.terminate()

    assert process.wait(timeout=DEADLINE_SECONDS) == 0
    calls = SESSIONS + 1
    assert counted(tmp_path) == (calls, calls * TURNS, calls)
    printed, _ = start("report").communicate(timeout=DEADLINE_SECONDS)
    assert printed.decode().splitlines() == [
        "flow                   calls   turns       p95",
        "booking                   20     600   0.290 s",
        "support                   21     630   0.290 s",
    ]


async def test_it_starts_from_now_when_told_to(bus: Bus, start: Start, tmp_path: Path) -> None:
    await bus.publish_many(call(0))
    process = start(ANALYTICS_START="now", ANALYTICS_NAME="late")
    async with asyncio.timeout(DEADLINE_SECONDS):
        # its own, and those of ingest
        while await _durables(bus) < 2 * PARTITIONS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await bus.publish_many(call(1))
    await until(tmp_path, TURNS + 2, process)
    process.terminate()
    process.wait(timeout=DEADLINE_SECONDS)
    assert counted(tmp_path) == (1, TURNS, 1)


async def _durables(bus: Bus) -> int:
    return len((await bus.connection.api("CONSUMER.NAMES.SESSIONS"))["consumers"] or ())


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[ConfiguredServer]:
    """A server that asks for a password."""
    server = ConfiguredServer(tmp_path / "guarded", 'authorization { user: ann, password: "secret" }\n')
    server.launch()
    yield server
    server.kill()


def test_a_broker_that_refuses_is_one_line_after_a_sign_of_life(
    guarded: ConfiguredServer, start: Start, tmp_path: Path
) -> None:
    process = start(ANTIPHON_NATS_URL=guarded.url)
    assert process.wait(timeout=DEADLINE_SECONDS) == 1
    log = (tmp_path / "log").read_text()

    assert f"consumer.connecting consumer='analytics' address='{guarded.url}'" in log.splitlines()[0]
    assert "Authorization Violation" in log.splitlines()[-1]
    assert "set ANTIPHON_NATS_URL" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_sigterm_before_it_has_connected_names_the_reason(
    guarded: ConfiguredServer, start: Start, tmp_path: Path
) -> None:
    process = start(ANTIPHON_NATS_URL=guarded.url)
    log, deadline = tmp_path / "log", time.monotonic() + DEADLINE_SECONDS
    while "consumer.connecting" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # for the server to refuse
    process.terminate()
    process.wait(timeout=DEADLINE_SECONDS)

    assert "nats.not_connected" in log.read_text()
    assert "Authorization Violation" in log.read_text()
    assert "nats.flush_failed" not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ANALYTICS_START": "yesterday"}, "yesterday"),
        ({"ANALYTICS_NAME": "ingest"}, "'ingest' is taken"),
        ({"ANTIPHON_NATS_URL": "http://x"}, "ANTIPHON_NATS_URL must start with nats://"),
    ],
)
def test_a_wrong_setting_is_named(
    start: Start, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    process = start(**settings)
    assert process.wait(timeout=DEADLINE_SECONDS) == 1
    assert message in (tmp_path / "log").read_text()
