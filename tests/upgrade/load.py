"""A steady load: sessions created over HTTP; each gets the events of a call, as its recorder sends them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import asyncpg
import httpx

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentReady
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import agent_event_id

CREATES_PER_SECOND = 3.0
TURNS = 4
TURN_SECONDS = 0.5
POLL_SECONDS = 0.01
IDLE_SECONDS = 1.0  # of a connection in the pool: shorter than the server keeps it, or both may act at once
NOBODY = "nobody"  # the agent that is dispatched: the load sends its events
SECONDS = 30.0
EPOCH = "AJ_load"

COMMITTED = "select coalesce(sum(position), 0) from checkpoints where name like 'ingest:%'"


@dataclass
class Gap:
    """The longest time between two things of one kind."""

    longest: float = 0.0
    _last: float | None = None

    def next(self) -> None:
        """Note one more."""
        now = time.perf_counter()
        if self._last is not None:
            self.longest = max(self.longest, now - self._last)
        self._last = now


@dataclass
class Load:
    """What was created and published, and what was refused."""

    pooled: bool = False  # a create takes a connection that was used before
    refused: list[str] = field(default_factory=list)
    published: dict[str, list[str]] = field(default_factory=dict)  # ids of events by session, in order
    slowest_create: float = 0.0
    creates: Gap = field(default_factory=Gap)
    commits: Gap = field(default_factory=Gap)

    def __str__(self) -> str:
        """Return the table of figures."""
        events = sum(map(len, self.published.values()))
        rows = (
            ("sessions created", f"{len(self.published)}"),
            ("creates refused", f"{len(self.refused)}"),
            ("events published by their agents", f"{events}"),
            ("longest gap between creates", f"{self.creates.longest * 1000:.0f} ms"),
            ("slowest create", f"{self.slowest_create * 1000:.0f} ms"),
            ("longest gap between commits", f"{self.commits.longest * 1000:.0f} ms"),
        )
        return "\n".join(f"| {what:<34} | {figure:>9} |" for what, figure in rows)


@asynccontextmanager
async def under_load(bus: Bus, url: str, key: str, dsn: str) -> AsyncIterator[Load]:
    """Create sessions until the end of the block, then let those that run end."""
    load = Load()
    ending = asyncio.Event()
    watching = asyncio.create_task(_watch_commits(dsn, load.commits))
    limits = (httpx.Limits(max_keepalive_connections=0), httpx.Limits(keepalive_expiry=IDLE_SECONDS))
    async with AsyncExitStack() as stack:
        # httpx tries nothing again
        single, pool = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=url,
                    headers={"Authorization": f"Bearer {key}"},
                    timeout=SECONDS,
                    limits=limit,
                    trust_env=False,
                )
            )
            for limit in limits
        ]
        creating = asyncio.create_task(
            _create_steadily(lambda: pool if load.pooled else single, bus, load, ending)
        )
        try:
            yield load
            ending.set()
            await asyncio.wait_for(creating, SECONDS + TURNS * TURN_SECONDS)
        finally:
            for task in (creating, watching):
                task.cancel()
            await asyncio.gather(creating, watching, return_exceptions=True)


async def _create_steadily(
    client: Callable[[], httpx.AsyncClient], bus: Bus, load: Load, ending: asyncio.Event
) -> None:
    start = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as sessions:
        for number in count():
            at = start + number / CREATES_PER_SECOND
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            if ending.is_set():
                return
            sessions.create_task(_session(client(), bus, load, number))


async def _session(client: httpx.AsyncClient, bus: Bus, load: Load, number: int) -> None:
    started = time.perf_counter()
    at = f"create {number}, {'pooled' if load.pooled else 'on a new connection'}"
    body = {"agent_name": NOBODY, "user_id": f"user-{number}"}
    try:
        response = await client.post("/v1/sessions", json=body)
    except httpx.HTTPError as error:
        load.refused.append(f"{at}: {error!r}")
        return
    if response.status_code != httpx.codes.CREATED:
        load.refused.append(f"{at}: {response.status_code} {response.text[:200]}")
        return
    load.creates.next()
    load.slowest_create = max(load.slowest_create, time.perf_counter() - started)
    session_id = response.json()["session_id"]
    published = load.published.setdefault(session_id, [])
    for envelope in _call(session_id):
        await bus.publish(outgoing(envelope), timeout_seconds=SECONDS)
        published.append(envelope.id)
        await asyncio.sleep(TURN_SECONDS)


def _call(session_id: str) -> Iterator[Envelope]:
    number = count(1)

    def sealed(event: Event) -> Envelope:
        n = next(number)
        return seal(
            event,
            id=agent_event_id(session_id, EPOCH, n),
            session_id=session_id,
            tenant="default",
            producer="agent",
            producerseq=n,
            time=datetime.now(UTC),
        )

    yield sealed(AgentJoined(job_id=EPOCH, worker_id="AW_load", epoch=EPOCH, identity="agent"))
    yield sealed(AgentReady(greeting="Hello.", ready_ms=10.0))
    for turn in range(1, TURNS + 1):
        yield sealed(
            TurnSaved(turn=turn, agent_id="host", user_text="hello", assistant_text="Gladly.", metrics={})
        )
    yield sealed(
        SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=TURNS)
    )


async def _watch_commits(dsn: str, commits: Gap) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        last = await connection.fetchval(COMMITTED)
        while True:
            await asyncio.sleep(POLL_SECONDS)
            reached = await connection.fetchval(COMMITTED)
            if reached != last:
                commits.next()
            last = reached
    finally:
        connection.terminate()
