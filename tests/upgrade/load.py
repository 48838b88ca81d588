"""A steady load: sessions created over HTTP; each gets the events of a call, as its recorder sends them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise

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

    def continued(self) -> "Gap":
        """Return a gap that begins with the last thing of this one."""
        return Gap(_last=self._last)


@dataclass
class Stage:
    """The figures of one step of the upgrade."""

    name: str
    creates: Gap
    commits: Gap
    started: float = field(default_factory=time.perf_counter)
    created: int = 0
    refused: int = 0
    slowest: float = 0.0


@dataclass
class Load:
    """What was created and published, and what was refused."""

    pooled: bool = False  # a create takes a connection that was used before
    refused: list[str] = field(default_factory=list)
    published: dict[str, list[str]] = field(default_factory=dict)  # ids of events by session, in order
    stages: list[Stage] = field(default_factory=lambda: [Stage("", Gap(), Gap())])

    @property
    def stage(self) -> Stage:
        """The step that runs now."""
        return self.stages[-1]

    def begin(self, name: str) -> None:
        """Begin a step; a gap from the step before counts for this one too."""
        before = self.stage
        self.stages.append(Stage(name, before.creates.continued(), before.commits.continued()))

    def refuse(self, what: str) -> None:
        """Note a create that was refused."""
        self.refused.append(what)
        self.stage.refused += 1

    def __str__(self) -> str:
        """Return the table of figures, in milliseconds, a line for each step; `end` is the last."""
        lines = [
            "| step | s | created | refused | longest gap in creates | slowest create | in commits |",
            "|---|---|---|---|---|---|---|",
        ]
        for each, following in pairwise(self.stages[1:]):
            seconds = following.started - each.started
            gaps = (each.creates.longest, each.slowest, each.commits.longest)
            figures = " | ".join(f"{gap * 1000:.0f}" for gap in gaps)
            lines.append(f"| {each.name} | {seconds:.0f} | {each.created} | {each.refused} | {figures} |")
        events = sum(map(len, self.published.values()))
        return "\n".join((*lines, f"{events} events of {len(self.published)} sessions"))


@asynccontextmanager
async def under_load(bus: Bus, url: str, key: str, dsn: str) -> AsyncIterator[Load]:
    """Create sessions until the end of the block, then let those that run end."""
    load = Load()
    ending = asyncio.Event()
    watching = asyncio.create_task(_watch_commits(dsn, load))
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
        load.refuse(f"{at}: {error!r}")
        return
    if response.status_code != httpx.codes.CREATED:
        load.refuse(f"{at}: {response.status_code} {response.text[:200]}")
        return
    stage = load.stage
    stage.created += 1
    stage.creates.next()
    stage.slowest = max(stage.slowest, time.perf_counter() - started)
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


async def _watch_commits(dsn: str, load: Load) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        last = await connection.fetchval(COMMITTED)
        while True:
            await asyncio.sleep(POLL_SECONDS)
            reached = await connection.fetchval(COMMITTED)
            if reached != last:
                load.stage.commits.next()
            last = reached
    finally:
        connection.terminate()
