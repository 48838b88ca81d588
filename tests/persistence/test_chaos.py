"""Four replicas, thirty faults at random times, under load: nothing lost, twice or out of order, views right.

The faults are drawn from a seed, which is printed: `CHAOS_SEED=7 pytest tests/persistence/test_chaos.py`.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.fixtures.cut_off import CutOff, cut_off_proxy

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.participant import ParticipantConnected, ParticipantDisconnected
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.tables import create_statements
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        Replica,
        Replicas,
        SampleSession,
    )

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

SEED = int(os.environ.get("CHAOS_SEED", "9"))
REPLICAS = 4
FAULTS = 30
BETWEEN_SECONDS = 0.3, 1.3  # two faults
LONGEST_PAUSE_SECONDS = 6.0  # longer than the 4 s after which Postgres ends a session
RATE = 300  # events a second
TICK_SECONDS = 0.1
CALLS = 96
MOST_TURNS = 600  # of a call: the load ends, however slow the machine is
SECONDS = 60.0

_BEHIND = """
select count(*)
  from (select partition, max(position) as head from event_log group by partition) as heads
 cross join unnest($1::text[]) as known (projection)
  left join projection_checkpoints as checkpoint using (projection, partition)
 where coalesce(checkpoint.position, 0) < head
"""


class Place:
    """A place for one replica at a time, with a network of its own to both servers."""

    def __init__(self, new: "Replicas", postgres: CutOff, nats: CutOff, ports: tuple[int, int]) -> None:
        self.networks = (postgres, nats)
        self.busy = False  # a fault is under way
        self._new = new
        self._ports = ports
        self.replica: Replica

    async def start(self) -> None:
        """Start a replica."""
        self.replica = self._new()
        environment = self.replica.environment
        for name, port, network in zip(
            ("ANTIPHON_POSTGRES_DSN", "ANTIPHON_NATS_URL"), self._ports, self.networks, strict=True
        ):
            environment[name] = environment[name].replace(f":{port}", f":{network.port}")
        await self.replica.start()


class Chaos:
    """Faults at random times, each in a place without another one."""

    def __init__(self, places: list[Place], chance: random.Random) -> None:
        self.done: list[str] = []
        self._places = places
        self._chance = chance
        self._faults: list[tuple[Callable[[Place, random.Random], Awaitable[None]], str]] = [
            (self._kill, "kill -9"),
            (self._terminate, "SIGTERM"),
            (self._pause, "SIGSTOP"),
            (self._cut, "cut off"),
        ]

    async def run(self) -> None:
        """Cause all faults and wait for their ends; every replica runs then."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(FAULTS):
                await asyncio.sleep(self._chance.uniform(*BETWEEN_SECONDS))
                place = self._chance.choice(await self._idle())
                fault, name = self._chance.choice(self._faults)
                self.done.append(name)
                place.busy = True
                # a generator of its own: what it draws does not depend on the order of the ends
                tasks.create_task(self._run(fault, place, random.Random(self._chance.random())))

    async def _idle(self) -> list[Place]:
        while not (idle := [place for place in self._places if not place.busy]):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
        return idle

    async def _run(
        self, fault: Callable[[Place, random.Random], Awaitable[None]], place: Place, chance: random.Random
    ) -> None:
        try:
            async with asyncio.timeout(2 * SECONDS):
                await fault(place, chance)
        finally:
            place.busy = False

    async def _kill(self, place: Place, chance: random.Random) -> None:
        await place.replica.end(signal.SIGKILL, SECONDS)
        await asyncio.sleep(chance.uniform(0, 2))
        await place.start()

    async def _terminate(self, place: Place, chance: random.Random) -> None:
        code = await place.replica.end(signal.SIGTERM, SECONDS)
        assert code in (0, -signal.SIGTERM), place.replica.log.read_text()  # the latter while it starts
        await asyncio.sleep(chance.uniform(0, 2))
        await place.start()

    async def _pause(self, place: Place, chance: random.Random) -> None:
        place.replica.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.5, LONGEST_PAUSE_SECONDS))
        place.replica.process.send_signal(signal.SIGCONT)

    async def _cut(self, place: Place, chance: random.Random) -> None:
        postgres, nats = place.networks
        cut = chance.choice([[postgres], [nats], [postgres, nats]])
        for network in cut:
            network.forwarding.clear()
        await asyncio.sleep(chance.uniform(0.5, LONGEST_PAUSE_SECONDS))
        for network in cut:
            network.forwarding.set()


class Load:
    """Many calls at a steady rate, until they are closed."""

    def __init__(self, sessions: "list[SampleSession]", publish: "Publish") -> None:
        self.calls: dict[str, list[Envelope]] = {session.session_id: [] for session in sessions}
        self._sessions = sessions
        self._publish = publish

    def count(self) -> int:
        return sum(map(len, self.calls.values()))

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until stopped, then close every call."""
        await self._put([(session, session.requested()) for session in self._sessions])
        began, published = time.monotonic(), 0
        while not stop.is_set() and published < CALLS * MOST_TURNS:
            due = min(int((time.monotonic() - began) * RATE), published + RATE)
            sessions = [self._sessions[number % CALLS] for number in range(published, due)]
            await self._put([(session, self._next(session)) for session in sessions])
            published = due
            await asyncio.sleep(TICK_SECONDS)
        await self._put([(session, self._closed(session)) for session in self._sessions])

    @staticmethod
    def _next(session: "SampleSession") -> Envelope:
        number = session.sealed
        others = {
            1: ParticipantConnected(identity="ada", sid=f"PA_{number // 11}", kind="standard"),
            3: AgentStateChanged(old_state="speaking", new_state="listening"),
            5: ToolStarted(call_id=f"call_{number // 11}", name="look_up", arguments="{}"),
            6: ToolCompleted(call_id=f"call_{number // 11}", name="look_up", status="done", output="found"),
            8: UsageUpdated(models=[ModelUsage(kind="llm", provider="p", model="m", requests=number)]),
            10: ParticipantDisconnected(identity="ada", sid=f"PA_{number // 11}", kind="standard"),
        }
        event = others.get(number % 11)
        return session.turn(number) if event is None else session.seal(event)

    @staticmethod
    def _closed(session: "SampleSession") -> Envelope:
        return session.seal(
            SessionClosed(
                reason=CloseReason.CALLER_LEFT,
                fault=FaultSide.NONE,
                duration_seconds=9.5,
                turns=session.sealed,
            )
        )

    async def _put(self, batch: "list[tuple[SampleSession, Envelope]]") -> None:
        for session, envelope in batch:
            self.calls[session.session_id].append(envelope)
        await self._publish([envelope for _, envelope in batch])


@pytest.fixture
async def places(
    replica: "Replicas", postgres_server: Postgres, nats_server: NatsServer
) -> AsyncIterator[list[Place]]:
    ports = postgres_server.port, nats_server.port
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(REPLICAS):
            networks = [await stack.enter_async_context(cut_off_proxy(port)) for port in ports]
            made.append(Place(replica, networks[0], networks[1], ports))
        yield made
        for place in made:
            if hasattr(place, "replica"):
                place.replica.process.send_signal(signal.SIGCONT)
                await place.replica.end(signal.SIGKILL)


async def test_thirty_faults_of_four_replicas_lose_nothing(
    bus: Bus,
    database: Database,
    places: list[Place],
    publish: "Publish",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    print(f"repeat with CHAOS_SEED={SEED}")
    for place in places:
        await place.start()
    await places[0].replica.until_ready(SECONDS)
    load, stop = Load([new_session(f"chaos {n}") for n in range(CALLS)], publish), asyncio.Event()
    chaos = Chaos(places, random.Random(SEED))
    async with asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(load.run(stop))
        await chaos.run()
        stop.set()
        await loading
    print(f"{load.count()} events; {', '.join(chaos.done)}")

    await event_log.until(load.count(), 2 * SECONDS)
    for session_id, call in load.calls.items():
        assert await event_log.events(session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert await event_log.count() == load.count()
    assert await event_log.dead_letters() == []
    report = await verify_log(database)
    assert (report.differences, report.verified) == ([], load.count())

    async def projected() -> bool:
        behind = await database.pool.fetchval(_BEHIND, [view.name for view in PROJECTIONS])
        return bool(behind == 0)

    await eventually(projected, 2 * SECONDS)
    await views_equal_the_fold(database, bus)


async def views_equal_the_fold(database: Database, bus: Bus) -> None:
    """Fold the log once more, without faults, and compare every row of every view."""
    envelopes = [e async for batch in Log(database, bus).read(Cursor({})) for e in batch.envelopes]
    async with database.pool.acquire() as connection:
        await connection.execute("create schema folded; set search_path = folded, public")
        for projection in PROJECTIONS:
            for table in projection.tables:
                for statement in create_statements(table.table):
                    await connection.execute(statement)
            cache = Cache()
            for start in range(0, len(envelopes), 500):
                nowhere = Advance(projection.name, [], [], [], [])
                await apply(projection, connection, envelopes[start : start + 500], nowhere, cache)
            for table in projection.tables:
                live = await rows(connection, f"public.{table.name}", table.key)
                folded = await rows(connection, f"folded.{table.name}", table.key)
                assert live.keys() == folded.keys(), f"{table.name}: other rows"
                assert [(live[key], folded[key]) for key in live if live[key] != folded[key]] == []
                assert live, f"{table.name} is empty: the comparison proves nothing"
        await connection.execute("reset search_path")


async def rows(connection: Any, table: str, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    found = [
        json.loads(row[0], parse_float=lambda text: round(float(text), 6))
        for row in await connection.fetch(f"select to_jsonb(view) from {table} as view")
    ]
    return {tuple(row[name] for name in key): row for row in found}
