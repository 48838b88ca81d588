"""Sample sessions, ingest loops in the test's own event loop, and persistence processes."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import TRANSIENT, Database, DatabaseUnavailable
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady, AgentStateChanged
from antiphon.contracts.events.session import (
    CloseReason,
    FaultSide,
    SessionClosed,
    SessionDispatched,
    SessionRequested,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.errors import NotReady
from antiphon.persistence.ingest.group_writer import GroupWriter
from antiphon.persistence.ingest.partition import IngestOptions, PartitionIngest
from antiphon.persistence.readiness import ReadinessCheck

UNAVAILABLE: tuple[type[Exception], ...] = (DatabaseUnavailable, *TRANSIENT)
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class SampleSession:
    """The events of one session, in the order in which they happen."""

    def __init__(self, name: str, tenant: str = "default") -> None:
        self.session_id = named_session_id(tenant, name)
        self.tenant = tenant
        self.partition = partition_of(self.session_id)
        self.sealed = 0

    def seal(self, event: Event) -> Envelope:
        """Seal the next event."""
        self.sealed += 1
        return seal(
            event,
            id=agent_event_id(self.session_id, "AJ_test", self.sealed),
            session_id=self.session_id,
            tenant=self.tenant,
            producer="test",
            producerseq=self.sealed,
            time=START + timedelta(milliseconds=self.sealed),
        )

    def requested(self) -> Envelope:
        return self.seal(
            SessionRequested(flow_id="booking", flow_revision=1, user_id="u1", room=self.session_id)
        )

    def turn(self, number: int, text: str = "a table for two") -> Envelope:
        return self.seal(
            TurnSaved(
                turn=number, agent_id="host", user_text=text, assistant_text="Gladly.", metrics={"ms": 1}
            )
        )

    def whole_call(self, turns: int = 3) -> list[Envelope]:
        """Return all events, from the request to the close."""
        return [
            self.requested(),
            self.seal(SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon")),
            self.seal(AgentJoined(job_id="AJ_test", worker_id="AW_1", epoch="AJ_test", identity="agent")),
            self.seal(AgentReady(greeting="Hello.", ready_ms=12.5)),
            *[self.turn(number) for number in range(1, turns + 1)],
            self.seal(AgentStateChanged(old_state="speaking", new_state="listening")),
            self.seal(
                SessionClosed(
                    reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=9.5, turns=turns
                )
            ),
        ]


NewSession = Callable[..., SampleSession]
Publish = Callable[[Iterable[Envelope]], Awaitable[None]]
Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def new_session() -> NewSession:
    """Make a sample session by name."""
    return SampleSession


@pytest.fixture
def publish(bus: Bus) -> Publish:
    """Publish envelopes in order."""

    async def put(envelopes: Iterable[Envelope]) -> None:
        outs = [outgoing(envelope) for envelope in envelopes]
        for start in range(0, len(outs), 1000):
            await bus.publish_many(outs[start : start + 1000])

    return put


async def _eventually(check: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await _holds(check):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


async def _holds(check: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await check()
    except UNAVAILABLE:  # a test has killed Postgres
        return False


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a check, a coroutine function, returns True."""
    return _eventually


class RunningIngest:
    """Ingest loops in the test's own event loop."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self.bus = bus
        self.database = database
        self.writer = GroupWriter(database)
        self.readiness = ReadinessCheck()
        self.options = IngestOptions()
        self.stop = asyncio.Event()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.partitions: dict[int, PartitionIngest] = {}

    def start(self, *partitions: int) -> None:
        """Start loops, without a lease: a test may run two of one partition."""
        for number in partitions:
            partition = PartitionIngest(
                number, self.bus, self.database, self.writer, self.readiness, self.options
            )
            self.partitions[number] = partition
            self.tasks[number] = asyncio.create_task(partition.run(self.stop))

    def restart(self, *partitions: int) -> None:
        """Start new loops after `end`."""
        self.stop = asyncio.Event()
        self.start(*partitions)

    def partition(self, number: int) -> PartitionIngest:
        """Return the loop of a partition."""
        return self.partitions[number]

    async def end(self) -> None:
        """Stop gracefully."""
        self.stop.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def ready(self) -> bool:
        """Return whether all loops are ready."""
        return not await self.reason()

    async def until_ready(self) -> None:
        """Wait until all loops are ready: a commit is visible before its loop has seen the answer."""
        await _eventually(self.ready)

    async def is_unready_because(self, words: str) -> bool:
        """Return whether the reason why the loops are not ready contains these words."""
        return words in await self.reason()

    async def reason(self) -> str:
        """Return why the loops are not ready; empty when they are."""
        try:
            await self.readiness.check()
        except NotReady as error:
            return str(error)
        return ""


@pytest.fixture
async def ingest(bus: Bus, database: Database) -> AsyncIterator[RunningIngest]:
    """Ingest loops that the test starts."""
    ingest = RunningIngest(bus, database)
    yield ingest
    await ingest.end()


class LogReader:
    """The content of the event log in Postgres."""

    def __init__(self, database: Database) -> None:
        self.pool = database.pool

    async def count(self) -> int:
        return int(await self.pool.fetchval("select count(*) from event_log"))

    async def until(self, count: int, seconds: float = 60.0) -> None:
        """Wait until the log holds at least `count` events."""

        async def reached() -> bool:
            return await self.count() >= count

        await _eventually(reached, seconds)

    async def events(self, session_id: str) -> list[tuple[int, str]]:
        """Return the sequence and the id of each event of a session."""
        rows = await self.pool.fetch(
            "select sequence, event_id from event_log where session_id = $1 order by sequence", session_id
        )
        return [(row["sequence"], row["event_id"]) for row in rows]

    async def dead_letters(self) -> list[asyncpg.Record]:
        return list(await self.pool.fetch("select * from dead_letters order by id"))


@pytest.fixture
def event_log(database: Database) -> LogReader:
    """The event log in Postgres."""
    return LogReader(database)


@pytest.fixture
def event_log_of() -> type[LogReader]:
    """Read the event log of another database."""
    return LogReader


class Replica:
    """A real `python -m antiphon.persistence run` process."""

    def __init__(self, nats_url: str, dsn: str, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = log
        self.arguments: tuple[str, ...] = ()  # of `run`
        self.environment = {
            **os.environ,
            "ANTIPHON_NATS_URL": nats_url,
            "ANTIPHON_POSTGRES_DSN": dsn,
            "ANTIPHON_PERSISTENCE_HEALTH_PORT": str(self.port),
            **settings,
        }
        self.process: Process

    async def start(self) -> None:
        """Start the process; it may not be ready yet."""
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "antiphon.persistence",
                "run",
                *self.arguments,
                env=self.environment,
                stdout=output,
                stderr=output,
            )

    async def health(self) -> tuple[int, dict[str, Any]]:
        """Return the readiness response, or (0, {}) if there is none."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return 0, {}
        writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(body)

    async def is_unready_because(self, words: str) -> bool:
        """Return whether it answers 503 with these words in the body."""
        status, body = await self.health()
        return status == 503 and words in str(body)

    async def until_ready(self, seconds: float = 60.0) -> None:
        """Wait until it is ready."""

        async def ready() -> bool:
            assert self.process.returncode is None, self.log.read_text()
            return (await self.health())[0] == 200

        await _eventually(ready, seconds)

    async def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal and wait for the end; return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), seconds)


Replicas = Callable[..., Replica]


@pytest.fixture
async def replica(nats_server: NatsServer, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Make persistence processes; those that still run at the end of the test are killed."""
    made: list[Replica] = []

    def make(**settings: str) -> Replica:
        log = tmp_path / f"persistence-{len(made)}.log"
        made.append(Replica(nats_server.url, postgres_dsn, log, **settings))
        return made[-1]

    yield make
    for each in made:
        if hasattr(each, "process"):
            await each.end(signal.SIGKILL)


@pytest.fixture
async def empty_dsn(postgres_server: Postgres, template_database: str) -> str:
    """The address of a database with nothing in it."""
    name = f"empty_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_server.dsn_of("postgres"))
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return postgres_server.dsn_of(name)
