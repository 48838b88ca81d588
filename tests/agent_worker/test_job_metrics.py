"""What a job process counts reaches the metrics of its worker, up to the last second before a kill."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from antiphon.agent_worker.job_metrics import GAUGES, JobMetrics, Reporter
from antiphon.chassis.bus import metrics as bus_metrics
from antiphon.recorder import metrics as outbox_metrics

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

SECONDS = 90.0  # to import what a job needs, on a busy machine


JOB = """
import sys
from antiphon.agent_worker.job_metrics import Reporter
from antiphon.chassis.bus import metrics as bus_metrics
from antiphon.recorder import metrics as outbox_metrics

path, pid = sys.argv[1], int(sys.argv[2])
reporter = Reporter(path, pid)
outbox_metrics.depth.watch(lambda: 3)
outbox_metrics.age.watch(lambda: pid)
for line in sys.stdin:
    outbox_metrics.events.add(int(line), "published")
    bus_metrics.duration.record(0.004, "nats", "publish", "SESSIONS", "")
    reporter.report()
    print("reported", flush=True)
from multiprocessing.util import _exit_function
outbox_metrics.events.add(10, "published")
_exit_function()  # as at the end of a process of multiprocessing
"""


@pytest.fixture
async def worker() -> AsyncIterator[JobMetrics]:
    metrics = JobMetrics()
    metrics.start()
    yield metrics
    metrics.close()


async def start(path: str, pid: int) -> Process:
    arguments = (sys.executable, "-c", JOB, path, str(pid))
    return await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE)


async def ask(job: Process, number: int) -> None:
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write(b"%d\n" % number)
    async with asyncio.timeout(SECONDS):
        assert await job.stdout.readline() == b"reported\n"


def published() -> float:
    return dict(outbox_metrics.events.series())["published",]


def stored() -> int:
    return sum(sum(series.counts) for _, series in bus_metrics.duration.series())


def gauges() -> list[float]:
    return [dict(gauge.series())[()] for gauge in GAUGES]


async def test_a_killed_job_loses_only_what_it_had_not_sent(worker: JobMetrics) -> None:
    events, publishes = published(), stored()
    first, second = await start(worker.path, 1), await start(worker.path, 2)
    await ask(first, 5)
    await ask(first, 2)
    await ask(second, 1)
    worker._receive(10)

    assert published() == events + 8
    assert stored() == publishes + 3
    assert gauges() == [6, 0, 2]
    first.kill()
    assert await first.wait() == -signal.SIGKILL
    worker.ended(1)
    assert gauges() == [3, 0, 2]
    await second.communicate(b"")  # it ends by itself, and reports what it has counted since
    worker.ended(2)
    assert gauges() == [0, 0, 0]
    assert published() == events + 18


async def test_nothing_waits_for_a_worker_that_does_not_read_or_is_gone() -> None:
    metrics = JobMetrics()
    reporter = Reporter(metrics.path, 1)
    before = published()
    for _ in range(2000):  # more than the socket holds
        outbox_metrics.events.add(1, "published")
        reporter.report()
    assert published() == before + 2000
    metrics._receive(10_000)  # this process counts twice: as the job, and as the worker that adds it
    reporter.report()
    metrics._receive(10_000)
    assert published() >= before + 4000
    metrics.start()
    metrics.close()
    reporter.report()


async def test_what_is_no_report_changes_nothing(
    worker: JobMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    before = published(), stored(), gauges()
    for data in (
        b"",
        b"\xff" * 10,
        msgspec.msgpack.encode({"pid": 1, "change": {"counters": {"antiphon.turns": [[["completed"], 1]]}}}),
        msgspec.msgpack.encode({"pid": 1, "change": {"counters": {outbox_metrics.events.name: [[[], 1]]}}}),
        msgspec.msgpack.encode(
            {"pid": 1, "change": {"histograms": {bus_metrics.duration.name: [[["nats"], [1], 1.0]]}}}
        ),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, worker.path)
    worker._receive(10)

    assert (published(), stored(), gauges()) == before


def scraped(worker: "Worker") -> dict[str, float]:
    text = httpx.get(worker.health.replace("/health/ready", "/metrics"), timeout=SECONDS).text
    return {
        "".join([sample.name, *(f" {value}" for value in sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_worker_serves_the_numbers_of_its_jobs(
    live_sessions: "Sessions", start_worker: Callable[..., "Worker"]
) -> None:
    worker = start_worker(ANTIPHON_AGENT_CALLS="3")
    idle = await asyncio.to_thread(scraped, worker)
    assert (idle["antiphon_worker_calls"], idle["antiphon_worker_capacity"]) == (0, 3)
    assert idle["antiphon_outbox_events_total published"] == idle["antiphon_worker_draining"] == 0

    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=SECONDS)
        async with asyncio.timeout(SECONDS):
            while True:
                busy = await asyncio.to_thread(scraped, worker)
                if busy["antiphon_outbox_events_total published"]:
                    break
                await asyncio.sleep(0.1)
    assert busy["antiphon_worker_calls"] == busy["antiphon_bus_connected"] == 1
    async with asyncio.timeout(SECONDS):
        while True:
            ended = await asyncio.to_thread(scraped, worker)
            if ended["antiphon_worker_jobs_total ended"]:
                break
            await asyncio.sleep(0.1)
    events = await live_sessions.events(session_id)
    of_the_job = [envelope for envelope in events if envelope.producer == "agent"]
    assert ended["antiphon_outbox_events_total published"] == len(of_the_job)
    assert ended["antiphon_outbox_depth"] == ended["antiphon_outbox_age_seconds"] == 0
    publishes = [
        value
        for name, value in ended.items()
        if name.startswith("messaging_client_operation_duration_seconds_count ") and "SESSIONS" in name
    ]
    assert 0 < sum(publishes) <= len(of_the_job)
