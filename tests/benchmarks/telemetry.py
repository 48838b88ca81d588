"""Telemetry on against off in the same run: ingest, creates, and the recorder's cost of an event.

On: traces go to a receiver in a process of its own, and every other call of ingest is traced by its client.
The passes with and without alternate, and the best of each is compared: other processes only slow one down.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import psutil
from msgspec import structs

from antiphon.chassis.bus import Bus, outgoing

from . import ingest
from .create import KEY, prepare, serving
from .load import Connection, post, throughput
from .report import Report, Result, Servers
from .telemetry_ingest import Pace
from .telemetry_recorder import Cost

RATIO = 0.97
MOST_SLOWER = 1.03
MICROSECONDS = 3.0
CONNECTIONS = 32
SECONDS = 1.0
PASSES = 5
CREATES = 300  # one at a time, of each
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
    paces: dict[bool, list[Pace]] = {False: [], True: []}
    for number in range(1, SUBPROCESS_PASSES + 1):
        for traced, measured in paces.items():
            name = "with" if traced else "without"
            report.step(f"ingest {name} telemetry, pass {number} of {SUBPROCESS_PASSES}", seconds=120)
            out = await _measured("tests.benchmarks.telemetry_ingest", servers, on if traced else {})
            measured.append(msgspec.json.decode(out, type=Pace))
    off, on_ = (max(pace.rate for pace in paces[traced]) for traced in (False, True))
    report.row(_higher("ingest", "events/s", on_, off))
    off, on_ = (min(pace.worked for pace in paces[traced]) for traced in (False, True))
    report.row(_lower("ingest, processor time of an event", "µs", on_, off))


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
    report.step("start session-api twice", seconds=60)
    await prepare(servers.nats_url)
    shared = {"ANTIPHON_NATS_URL": servers.nats_url, "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s" * 32}
    ours = ("tests.benchmarks.create_server", "ours")
    async with AsyncExitStack() as stack:
        off_port, off_pid = await stack.enter_async_context(serving(ours, shared))
        on_port, on_pid = await stack.enter_async_context(serving(ours, {**shared, **on}))
        processes = {off_port: psutil.Process(off_pid), on_port: psutil.Process(on_pid)}
        report.step(f"load each in turn, {CONNECTIONS} at a time", seconds=60)
        rates: dict[int, list[float]] = {port: [] for port in processes}
        work: dict[int, list[float]] = {port: [] for port in processes}
        for _ in range(PASSES):
            for port, process in processes.items():
                worked, began = _seconds(process), time.perf_counter()
                rate = await throughput(port, REQUEST, connections=CONNECTIONS, seconds=SECONDS)
                rates[port].append(rate)
                requests = rate * (time.perf_counter() - began)  # a pass takes longer on a busy machine
                work[port].append((_seconds(process) - worked) / requests * 1e6)
        report.step(f"{CREATES} creates, one at a time", seconds=60)
        p50 = await _p50s(off_port, on_port)
    name = f"create, {CONNECTIONS} at a time"
    report.row(_higher(name, "requests/s", max(rates[on_port]), max(rates[off_port])))
    report.row(_lower(f"{name}, processor time", "µs", min(work[on_port]), min(work[off_port])))
    report.row(_lower("create, one at a time, p50", "ms", p50[on_port], p50[off_port]))


async def _p50s(*ports: int) -> dict[int, float]:
    """Send creates in turn and return the median of each server, in milliseconds."""
    latencies: dict[int, list[float]] = {port: [] for port in ports}
    opened = {port: await Connection.open(port) for port in ports}
    for _ in range(CREATES):
        for port, connection in opened.items():
            began = time.perf_counter()
            await connection.send(REQUEST)
            latencies[port].append((time.perf_counter() - began) * 1000)
    for connection in opened.values():
        connection.close()
    return {port: statistics.median(taken) for port, taken in latencies.items()}


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


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _higher(name: str, unit: str, value: float, baseline: float) -> Result:
    return Result(
        name=f"{name}, with telemetry",
        value=value,
        unit=unit,
        baseline_name="without",
        baseline=baseline,
        target=RATIO,
        compared="ratio",
        better="higher",
    )


def _lower(name: str, unit: str, value: float, baseline: float) -> Result:
    return Result(
        name=f"{name}, with telemetry",
        value=value,
        unit=unit,
        baseline_name="without",
        baseline=baseline,
        target=MOST_SLOWER,
        compared="ratio",
    )


def _added(name: str, without: float, value: float, target: float | None = None) -> Result:
    return Result(
        name=name, value=value - without, unit="µs", baseline_name="without", baseline=without, target=target
    )
