"""Lag: the time until an event is committed and announced, and until it is visible in the session view.

The load, ingest, the view and the bare loop each have a process of their own; this one observes. Commits are
compared without the view, which the bare loop has not; then the view follows, and has caught up when the load
begins. The other views are not running: `views` and `replicas` measure with all of them.
"""

import asyncio
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles

import msgspec

from antiphon.chassis.bus import Bus, Subscription
from antiphon.chassis.database import Database
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import committed_filter

from .ingest import CALLS
from .persistence import running, until
from .report import Report, Result, Servers
from .views import FOLDED

VIEW = "sessions"
RATES = {1_000: 0.003, 5_000: 0.01}  # events a second, and seconds between two looks at the view
SECONDS = 12
WARM_UP_SECONDS = 4  # whose events are not counted
SAMPLES_PER_SECOND = 20  # events that are looked for in the view: to look slows down what is measured
TARGETS = {"committed": 1.5, "visible": 2.5}

_BUILT = "select exists (select from projections where name = $1)"


class _Announced(msgspec.Struct):
    """What is read of an announced envelope."""

    subject: str
    producerseq: int
    sequence: int = 0  # the bare loop announces none


_announcement = msgspec.json.Decoder(list[_Announced])


async def run(servers: Servers, report: Report) -> None:
    """Publish at steady rates to the bare loop, then to persistence; report the lags."""
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    database = await Database.connect(servers.dsn, max_size=8)
    try:
        await bus.ensure()
        for rate in RATES:
            report.step(f"{rate} events a second to the bare loop", seconds=90)
            async with _bare(servers):
                bare, _ = await _measure(servers, bus, database, rate, "bare", visible=False)
            report.step("start ingest", seconds=90)
            async with running(servers, views=[]):
                report.step(f"{rate} events a second to ingest", seconds=90)
                committed, _ = await _measure(servers, bus, database, rate, "ingest", visible=False)
                report.step("start the view beside it", seconds=90)
                async with running(servers, "--no-ingest", views=[VIEW]):
                    await until(database, _BUILT, VIEW)
                    await until(database, FOLDED, [VIEW])  # what the loads before have left
                    report.step(f"{rate} events a second to ingest and the view", seconds=90)
                    beside, visible = await _measure(servers, bus, database, rate, "view", visible=True)
            for p in (50, 99):
                baseline = _percentile(bare, p)
                for what, lags in (("committed", committed), ("visible", visible), ("beside", beside)):
                    report.row(_result(what, rate, p, _percentile(lags, p), baseline))
    finally:
        await bus.close()
        await database.close()


def _percentile(seconds: list[float], percentile: int) -> float:
    return quantiles(seconds, n=100)[percentile - 1] * 1000


def _result(what: str, rate: int, percentile: int, value: float, baseline: float) -> Result:
    names = {
        "committed": "committed and announced",
        "visible": "visible in the session view",
        "beside": "committed and announced, while the view follows",
    }
    return Result(
        name=f"published -> {names[what]}, p{percentile} at {rate} ev/s",
        value=value,
        unit="ms",
        baseline_name="ms, bare loop",
        baseline=baseline,
        target=TARGETS.get(what) if percentile == 50 else None,
        compared="ratio",
    )


async def _measure(
    servers: Servers, bus: Bus, database: Database, rate: int, name: str, *, visible: bool
) -> tuple[list[float], list[float]]:
    events = rate * (SECONDS + WARM_UP_SECONDS)
    conversations = f"lag {name} {rate}"
    path = Path(servers.folder) / f"lag-{name}-{rate}"
    arguments = [servers.nats_url, str(rate), str(events), conversations, str(path)]
    command = [sys.executable, "-m", "tests.benchmarks.lag_load", *arguments]
    observed = _Observed(database, conversations, events, rate // SAMPLES_PER_SECOND if visible else 0)
    subscription = await bus.subscribe(committed_filter())
    collecting = asyncio.create_task(observed.collect(subscription))
    polling = asyncio.create_task(observed.poll_view(RATES[rate]))
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
    try:
        assert load.stdout is not None
        await asyncio.to_thread(load.stdout.readline)  # it has made the events
        await asyncio.to_thread(load.communicate, b"go\n")
        async with asyncio.timeout(60):
            await collecting
            while observed.invisible:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(RATES[rate])
    finally:
        collecting.cancel()
        polling.cancel()
        await asyncio.gather(collecting, polling, return_exceptions=True)
        load.kill()
        await subscription.close()
    published = array("d")
    published.frombytes(path.read_bytes())
    first = rate * WARM_UP_SECONDS
    committed = [at - published[n] for n, at in observed.committed().items() if n >= first]
    return committed, [at - published[n] for n, at in observed.visible.items() if n >= first]


class _Observed:
    """The times at which events were announced, and a sample of them was visible, by number of the event."""

    def __init__(self, database: Database, name: str, events: int, every: int) -> None:
        self._database = database
        self._events = events
        self._every = every
        self._sessions = {named_session_id("default", f"{name} {call}"): call for call in range(CALLS)}
        self._announced: list[tuple[float, bytes]] = []  # decoded when the load is over
        self.visible: dict[int, float] = {}
        self.invisible: dict[int, _Announced] = {}  # samples that were announced

    async def collect(self, subscription: Subscription) -> None:
        """Note the announcements until all events were announced."""
        events = 0
        async for _, payload in subscription:
            self._announced.append((time.monotonic(), payload))
            events += payload.count(b'"producerseq":')
            if self._every and len(self._announced) % self._every == 0:
                [*_, last] = _announcement.decode(payload)
                self.invisible[self._number(last)] = last
            if events >= self._events:
                return

    def committed(self) -> dict[int, float]:
        """Return the time of the announcement of each event, by its number."""
        return {
            self._number(envelope): at
            for at, payload in self._announced
            for envelope in _announcement.decode(payload)
        }

    def _number(self, envelope: _Announced) -> int:
        """Return the number of an event in `conversation`."""
        return (envelope.producerseq - 1) * CALLS + self._sessions[envelope.subject]

    async def poll_view(self, seconds: float) -> None:
        """Look for all samples at once, again and again until cancelled; note which have become visible."""
        query = "select session_id, sequence from sessions where session_id = any($1)"
        while True:
            await asyncio.sleep(seconds)
            waiting = list(self.invisible.items())
            if not waiting:
                continue
            rows = await self._database.pool.fetch(query, [envelope.subject for _, envelope in waiting])
            seen = {session_id: sequence for session_id, sequence in rows}  # noqa: C416 - rows are no tuples
            now = time.monotonic()
            for number, envelope in waiting:
                if seen.get(envelope.subject, 0) >= envelope.sequence:
                    self.visible[number] = now
                    del self.invisible[number]


@asynccontextmanager
async def _bare(servers: Servers) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "tests.benchmarks.bare_ingest", servers.nats_url, servers.dsn]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    try:
        if await asyncio.to_thread(process.stdout.readline) != b"ready\n":
            raise RuntimeError("the bare loop did not start")
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
        process.stdout.close()
