"""Footprint: the time from nothing to ready of each service, and its memory at rest and under load.

A service is started again and again beside the one of a running stack, in the same environment, and by turns
with a process that only imports the libraries that it declares: what is more is ours, and the connections.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from tests.fixtures.process_tree import kill_tree
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.stack.ports import free_port

from .footprint_load import load_of
from .processes import family, pss_mib, watching
from .report import Report, Result, Servers

STACK_SECONDS = 400
STARTS = 3
READY_SECONDS = 60
SETTLE_SECONDS = 10
LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Service:
    """How a service is started, and the libraries that it cannot do without."""

    name: str
    command: tuple[str, ...]
    port: str
    imports: str


SERVICES = (
    Service(
        "session-api",
        ("antiphon.session_api",),
        "ANTIPHON_API_PORT",
        "fastapi, uvicorn, uvloop, nats, asyncpg, livekit.api, pydantic_settings, structlog, limits,"
        " ddsketch",
    ),
    Service(
        "webhook-ingest",
        ("antiphon.webhook_ingest",),
        "ANTIPHON_WEBHOOKS_PORT",
        "starlette.applications, uvicorn, uvloop, nats, livekit.api, pydantic_settings, structlog",
    ),
    Service(
        "persistence",
        ("antiphon.persistence", "run"),
        "ANTIPHON_PERSISTENCE_HEALTH_PORT",
        "sqlalchemy.dialects.postgresql.asyncpg, uvicorn, uvloop, nats, asyncpg, pydantic_settings,"
        " structlog, typer, ddsketch",
    ),
    Service(
        "agent-worker",
        ("antiphon.agent_worker", "run"),
        "ANTIPHON_AGENT_HEALTH_PORT",
        "livekit.agents, livekit.plugins.silero, uvicorn, uvloop, nats, pydantic_settings, structlog, yaml,"
        " jsonschema",
    ),
)


async def run(servers: Servers, report: Report) -> None:
    """Start a stack; measure its services at rest, other ones as they start, and the stack under load."""
    report.step("start a stack", seconds=STACK_SECONDS)
    folder = Path(servers.folder)
    with EmbeddedStack(isolated_settings(folder / "stack")) as stack:
        status = stack.status()
        pids = {service.name: service.pid for service in status.services if service.pid is not None}
        report.step("let it come to rest", seconds=SETTLE_SECONDS + 30)
        await asyncio.sleep(SETTLE_SECONDS)
        at_rest = {name: pss_mib(pid) for name, pid in pids.items()}
        for service in SERVICES:
            report.step(f"start {service.name} {STARTS} times", seconds=STARTS * 2 * READY_SECONDS)
            environment = psutil.Process(pids[service.name]).environ()
            for result in await _starts(service, environment, folder):
                report.row(result)
        for name, mib in at_rest.items():
            report.row(Result(name=f"memory at rest: {name}", value=mib, unit="MiB"))
        for name, seconds, act in load_of(status.addresses):
            report.step(f"load {name}", seconds=seconds + 60)
            async with watching(pids) as used:
                count, took = await act()
            report.row(
                Result(
                    name=f"memory under load: {name}, {count / took:,.0f} a second",
                    value=used.peak_mib[name],
                    unit="MiB",
                    baseline_name="at rest",
                    baseline=at_rest[name],
                )
            )
            report.row(
                Result(
                    name=f"processor time: {name}, of one", value=1e6 * used.seconds(name) / count, unit="µs"
                )
            )
        report.step("stop the stack", seconds=180)


async def _starts(service: Service, environment: Mapping[str, str], folder: Path) -> list[Result]:
    ready, imported, seconds = [], [], []
    for number in range(STARTS):
        imported.append(await _imports(service, environment))
        took, used = await _start(service, environment, folder / f"{service.name}-{number}")
        ready.append(took)
        seconds.append(used)
    baseline = median(imported)
    return [
        Result(
            name=f"start to ready: {service.name}, p50 of {STARTS}",
            value=median(ready),
            unit="s",
            baseline_name="its libraries, imported alone",
            baseline=baseline,
        ),
        Result(name=f"processor time of a start: {service.name}", value=median(seconds), unit="s"),
    ]


async def _imports(service: Service, environment: Mapping[str, str]) -> float:
    program = f"import gc; gc.disable(); import {service.imports}"
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program], env=dict(environment))  # noqa: ASYNC220
    status = await asyncio.to_thread(process.wait, READY_SECONDS)
    if status:
        raise RuntimeError(f"the libraries of {service.name} cannot be imported: {service.imports}")
    return time.perf_counter() - began


async def _start(service: Service, environment: Mapping[str, str], journal: Path) -> tuple[float, float]:
    """Return the seconds until it is ready, and its CPU seconds until then."""
    port = free_port()
    variables = {**environment, service.port: str(port), "ANTIPHON_JOURNAL_DIR": str(journal)}
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", *service.command],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _is_ready(port):
                if process.poll() is not None:
                    raise RuntimeError(f"{service.name} ended with {process.returncode} before it was ready")
                await asyncio.sleep(LOOK_SECONDS)
        took = time.perf_counter() - began
        times = [each.cpu_times() for each in family(process.pid)]
        return took, sum(each.user + each.system for each in times)
    finally:
        kill_tree(process.pid)
        await asyncio.to_thread(process.wait, READY_SECONDS)


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
        answer = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in answer
