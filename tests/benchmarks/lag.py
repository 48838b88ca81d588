"""Lag: the time until an event is committed and announced, and until it is visible in the session view.

The load, ingest, the view and the bare loop each have a process of their own; this one observes. The other
views are not running: `views` and `replicas` measure with all of them.
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
from msgspec import UNSET

from antiphon.chassis.bus import Bus, Subscription
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import committed_filter

from .ingest import CALLS
from .persistence import running, until
from .report import Report, Result, Servers

VIEW = "sessions"
RATES = (1_000, 5_000)  # events a second
SECONDS = 6
WARM_UP_SECONDS = 2  # whose events are not counted
SAMPLES_PER_SECOND = 20  # events that are polled for in the view: polling slows down what is measured
POLL_SECONDS = 0.0005
TARGETS = {"committed": 1.5, "visible": 2.5}

_BUILT = "select exists (select from projections where name = $1)"

_announcement = msgspec.json.Decoder(list[Envelope])


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
            report.step("start ingest and the views", seconds=150)
            async with running(servers, views=[]), running(servers, "--no-ingest", views=[VIEW]):
                await until(database, _BUILT, VIEW)
                report.step(f"{rate} events a second to ingest", seconds=90)
                committed, visible = await _measure(servers, bus, database, rate, "ours", visible=True)
            for p in (50, 99):
                baseline = _percentile(bare, p)
                for what, lags in (("committed", committed), ("visible", visible)):
                    report.row(_result(what, rate, p, _percentile(lags, p), baseline))
    finally:
        await bus.close()
        await database.close()


def _percentile(seconds: list[float], percentile: int) -> float:
    return quantiles(seconds, n=100)[percentile - 1] * 1000


def _result(what: str, rate: int, percentile: int, value: float, baseline: float) -> Result:
    names = {"committed": "committed and announced", "visible": "visible in the session view"}
    return Result(
        name=f"published -> {names[what]}, p{percentile} at {rate} ev/s",
        value=value,
        unit="ms",
        baseline_name="ms, bare loop",
        baseline=baseline,
        target=TARGETS[what] if percentile == 50 else None,
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
    load = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: ASYNC220
    try:
        await asyncio.sleep(2)  # it imports and connects
        await asyncio.to_thread(load.communicate, b"go\n")
        async with asyncio.timeout(60):
            await collecting
            await asyncio.gather(*observed.polling)
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        load.kill()
        await subscription.close()
    published = array("d")
    published.frombytes(path.read_bytes())
    first = rate * WARM_UP_SECONDS
    committed = [at - published[n] for n, at in observed.committed.items() if n >= first]
    return committed, [at - published[n] for n, at in observed.visible.items() if n >= first]


class _Observed:
    """The times at which events were announced, and a sample of them was visible, by number of the event."""

    def __init__(self, database: Database, name: str, events: int, every: int) -> None:
        self._database = database
        self._events = events
        self._every = every
        self._sessions = {named_session_id("default", f"{name} {call}"): call for call in range(CALLS)}
        self.committed: dict[int, float] = {}
        self.visible: dict[int, float] = {}
        self.polling: set[asyncio.Task[None]] = set()

    async def collect(self, subscription: Subscription) -> None:
        """Note the announcements until all events were announced."""
        async for _, payload in subscription:
            now = time.monotonic()
            for envelope in _announcement.decode(payload):
                number = self._number(envelope)
                self.committed[number] = now
                if self._every and number % self._every == 0:
                    self.polling.add(asyncio.create_task(self._poll_view(envelope, number)))
            if len(self.committed) == self._events:
                return

    def _number(self, envelope: Envelope) -> int:
        """Return the number of an event in `conversation`."""
        return (envelope.producerseq - 1) * CALLS + self._sessions[envelope.subject]

    async def _poll_view(self, envelope: Envelope, number: int) -> None:
        query = "select sequence from sessions where session_id = $1"
        seen = 0
        assert envelope.sequence is not UNSET
        while seen < envelope.sequence:
            await asyncio.sleep(POLL_SECONDS)
            seen = await self._database.pool.fetchval(query, envelope.subject) or 0
        self.visible[number] = time.monotonic()


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
