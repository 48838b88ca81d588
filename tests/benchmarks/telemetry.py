"""Telemetry on against off in the same run: ingest, creates, and the recorder's cost of an event.

On: traces go to a receiver in a process of its own, and every other call of ingest is traced by its client.
Ingest and creates are measured in one process, with its traces switched on and off in turn: two processes
differ more by the layout of their memory than by telemetry.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
from msgspec import structs

from antiphon.chassis.bus import Bus, outgoing

from . import ingest, telemetry_ingest
from .create import KEY, prepare, serving
from .load import Connection, Load, post
from .report import Better, Report, Result, Servers
from .switched_traces import OFF, ON, Samples, in_turn
from .telemetry_ingest import Pace
from .telemetry_recorder import Cost

RATIO = 0.97
MOST_SLOWER = 1.03
MICROSECONDS = 3.0
CONNECTIONS = 32
WARM_UP_SECONDS = 2.0
SECONDS = 0.25
SETTLED_SECONDS = 0.05  # after a switch, for the requests before it to end
PASSES = 160
BLOCKS, CREATES = 60, 20  # one at a time
SUBPROCESS_PASSES = 2
BATCH = 1000  # the limit of one
RECEIVER = "tests.doubles.otlp_receiver"
REQUEST = post("/v1/sessions", b'{"flow_id":"benchmark","user_id":"ada","metadata":{"order":"A-17"}}', KEY)


async def run(servers: Servers, report: Report) -> None:
    """Measure each with and without telemetry."""
    report.step("start a receiver of traces", seconds=30)
    async with _receiver() as url:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        await _ingest(servers, report, on)  # first: the stream has only its events
        await _creates(servers, report, on)
        await _recorder(servers, report, on)


@asynccontextmanager
async def _receiver() -> AsyncIterator[str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", RECEIVER, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def _ingest(servers: Servers, report: Report, on: Mapping[str, str]) -> None:
    report.step(f"fill the stream with {ingest.EVENTS} events, half of them of traced calls", seconds=120)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    try:
        await bus.ensure()
        await _fill(bus)
    finally:
        await bus.close()
    report.step(f"ingest them, {telemetry_ingest.PASSES} times with telemetry and without", seconds=240)
    out = await _measured("tests.benchmarks.telemetry_ingest", servers, on)
    pace = msgspec.json.decode(out, type=Pace)
    report.row(_compared("ingest", "events/s", pace.rate.compared(), better="higher"))
    spans, rest = statistics.median(pace.telemetry), statistics.median(pace.rest)
    report.row(_compared("ingest, processor time of an event", "µs", (rest + spans, rest)))


async def _fill(bus: Bus) -> None:
    """Publish the events of many calls, every other one of which is traced."""
    batch = []
    for number, envelope in enumerate(ingest.conversation(ingest.EVENTS)):
        trace = int.from_bytes(envelope.subject.encode()[-16:])
        traced = structs.replace(envelope, traceparent=f"00-{trace:032x}-00f067aa0ba902b7-01")
        batch.append(outgoing(traced if number % 2 else envelope))
        if len(batch) == BATCH:
            await bus.publish_many(batch)
            batch = []


async def _creates(servers: Servers, report: Report, on: Mapping[str, str]) -> None:
    report.step("start session-api", seconds=60)
    await prepare(servers.nats_url)
    shared = {"ANTIPHON_NATS_URL": servers.nats_url, "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s" * 32}
    async with serving(("tests.benchmarks.create_server", "ours"), {**shared, **on}) as (port, pid):
        report.step(f"load it, {CONNECTIONS} at a time, in {PASSES} turns of each", seconds=180)
        rates, work = await _loaded(port, pid)
        report.step(f"{BLOCKS * CREATES} creates of each, one at a time", seconds=60)
        latencies = await _latencies(port, pid)
    name = f"create, {CONNECTIONS} at a time"
    report.row(_compared(name, "requests/s", rates.compared(), better="higher"))
    report.row(_compared(f"{name}, processor time", "µs", work.compared()))
    report.row(_compared("create, one at a time, p50", "ms", latencies.compared()))


async def _loaded(port: int, pid: int) -> tuple[Samples, Samples]:
    """Load a server all the time; return its requests per second, and microseconds of a request."""
    rates, work, load = Samples([], []), Samples([], []), Load(port, REQUEST)
    async with load.running(CONNECTIONS):
        await asyncio.sleep(WARM_UP_SECONDS)
        for traced in in_turn(PASSES):
            os.kill(pid, ON if traced else OFF)
            await asyncio.sleep(SETTLED_SECONDS)
            done, worked, began = load.done, _seconds(pid), time.perf_counter()
            await asyncio.sleep(SECONDS)
            requests = load.done - done
            rates.of(traced).append(requests / (time.perf_counter() - began))
            work.of(traced).append((_seconds(pid) - worked) / requests * 1e6)
    return rates, work


async def _latencies(port: int, pid: int) -> Samples:
    """Send creates one at a time and return the medians of their blocks, in milliseconds."""
    medians, connection = Samples([], []), await Connection.open(port)
    for traced in in_turn(BLOCKS):
        os.kill(pid, ON if traced else OFF)
        await asyncio.sleep(SETTLED_SECONDS)
        taken = []
        for _ in range(CREATES):
            began = time.perf_counter()
            await connection.send(REQUEST)
            taken.append((time.perf_counter() - began) * 1000)
        medians.of(traced).append(statistics.median(taken))
    connection.close()
    return medians


async def _recorder(servers: Servers, report: Report, on: Mapping[str, str]) -> None:
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    for number in range(1, SUBPROCESS_PASSES + 1):
        for traced, measured in costs.items():
            name = "with" if traced else "without"
            report.step(f"record events {name} telemetry, pass {number} of {SUBPROCESS_PASSES}", seconds=60)
            out = await _measured("tests.benchmarks.telemetry_recorder", servers, on if traced else {})
            measured.append(msgspec.json.decode(out, type=Cost))
    off, on_ = (min(cost.written for cost in costs[traced]) for traced in (False, True))
    report.row(_added("recorder: what telemetry adds to a recorded event", off, on_, target=MICROSECONDS))
    off, on_ = (min(cost.published for cost in costs[traced]) for traced in (False, True))
    report.row(_added("recorder: what it adds to all work until the broker has the event", off, on_))


async def _measured(module: str, servers: Servers, variables: Mapping[str, str]) -> bytes:
    """Return what a process of its own prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        servers.nats_url,
        servers.dsn,
        servers.folder,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return out


def _seconds(pid: int) -> float:
    """Return the processor time of a process, finer than the hundredths of a second that /proc has."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), which Python has only for threads


def _compared(name: str, unit: str, figures: tuple[float, float], better: Better = "lower") -> Result:
    value, baseline = figures
    return Result(
        name=f"{name}, with telemetry",
        value=value,
        unit=unit,
        baseline_name="without",
        baseline=baseline,
        target=RATIO if better == "higher" else MOST_SLOWER,
        compared="ratio",
        better=better,
    )


def _added(name: str, without: float, value: float, target: float | None = None) -> Result:
    return Result(
        name=name, value=value - without, unit="µs", baseline_name="without", baseline=without, target=target
    )
