"""The feed of a tenant: from a commit to its bytes at 100 subscribers, against one subscriber.

And what a stream costs session-api while no event comes: its memory with 100 against that with none.
Load generator, session-api and subscribers are processes of their own; times are of the machine's clock.
"""

import asyncio
import os
import sys
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles

import psutil

from .create import prepare, serving
from .processes import pss_mib
from .report import Report, Result, Servers

SUBSCRIBERS = 100
RATE = 1_000  # events a second
SECONDS = 8
SETTLE_SECONDS = 3
WARM_UP = 1_000  # events that are not counted


async def run(servers: Servers, report: Report) -> None:
    """Measure one subscriber, and then many."""
    report.step("start session-api", seconds=90)
    await prepare(servers.nats_url)
    variables = {
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    async with serving(("antiphon.session_api",), variables) as (port, process):
        report.step(f"{SUBSCRIBERS} subscribers without events", seconds=90)
        none, idle = await _at_rest(servers, port, process)
        report.step(f"{RATE} events a second to one subscriber", seconds=90)
        one, *_ = await _measure(servers, port, process, 1)
        report.step(f"{RATE} events a second to {SUBSCRIBERS} subscribers", seconds=90)
        many, mib, cpu = await _measure(servers, port, process, SUBSCRIBERS)
    for percentile in (50, 99):
        report.row(
            Result(
                name=f"committed -> at {SUBSCRIBERS} subscribers of a tenant at {RATE} ev/s, p{percentile}",
                value=quantiles(many, n=100)[percentile - 1],
                unit="ms",
                baseline_name="one subscriber",
                baseline=quantiles(one, n=100)[percentile - 1],
            )
        )
    report.row(Result(name=f"CPU of session-api with {SUBSCRIBERS} subscribers", value=cpu * 100, unit="%"))
    report.row(Result(name=f"memory of session-api with {SUBSCRIBERS} subscribers", value=mib, unit="MiB"))
    report.row(
        Result(
            name=f"memory of session-api with {SUBSCRIBERS} subscribers, without events",
            value=idle,
            unit="MiB",
            baseline_name="without subscribers",
            baseline=none,
        )
    )
    kib = (idle - none) * 1024 / SUBSCRIBERS
    report.row(Result(name="memory of a stream without events", value=kib, unit="KiB"))


async def _at_rest(servers: Servers, port: int, api: int) -> tuple[float, float]:
    """Return the API's memory in MiB without subscribers and with many, while no event comes."""
    readers = (
        "tests.benchmarks.feed_readers",
        str(port),
        str(SUBSCRIBERS),
        str(Path(servers.folder) / "none"),
    )
    await asyncio.sleep(SETTLE_SECONDS)
    none = pss_mib(api)
    async with _process((sys.executable, "-m", *readers)) as reading:
        await _line(reading)
        await asyncio.sleep(SETTLE_SECONDS)
        return none, pss_mib(api)


async def _measure(servers: Servers, port: int, api: int, count: int) -> tuple[list[float], float, float]:
    """Return the milliseconds of every event at every subscriber; the API's memory in MiB, and its CPU."""
    received, committed = Path(servers.folder) / "received", Path(servers.folder) / "committed"
    readers = (sys.executable, "-m", "tests.benchmarks.feed_readers", str(port), str(count), str(received))
    load = (
        *(sys.executable, "-m", "tests.benchmarks.feed_load", servers.nats_url, servers.dsn),
        *(str(RATE), str(SECONDS), str(committed)),
    )
    async with _process(readers) as reading, _process(load) as loading:
        await _line(reading)
        before = _cpu_seconds(api)
        _tell(loading, "begin")
        _tell(reading, events := await _line(loading))
        memory = psutil.Process(api).memory_info().rss / (1 << 20)
        if (found := await _line(reading)) != events:
            raise RuntimeError(f"subscribers received {found} of {events} events")
        cpu = (_cpu_seconds(api) - before) / SECONDS
    commits = dict(zip(*_columns(committed), strict=True))
    late = list(commits)[WARM_UP:]
    counted = dict.fromkeys(late)
    times = [
        (at - commits[position]) * 1000
        for position, at in zip(*_columns(received), strict=True)
        if position in counted
    ]
    if len(times) != len(late) * count:
        raise RuntimeError(f"{len(times)} events arrived, not {len(late)} x {count}")
    return times, memory, cpu


def _cpu_seconds(process: int) -> float:
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def _columns(path: Path) -> tuple["array[int]", "array[float]"]:
    """Read positions, and as many times."""
    raw = path.read_bytes()
    positions, times = array("q"), array("d")
    positions.frombytes(raw[: len(raw) // 2])
    times.frombytes(raw[len(raw) // 2 :])
    return positions, times


@asynccontextmanager
async def _process(command: tuple[str, ...]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(80):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the benchmark ended")
    return line.decode().strip()


def _tell(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n".encode())
