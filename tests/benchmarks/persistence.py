"""A persistence process beside a benchmark: started with options, ready, stopped at the end."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psutil

from antiphon.chassis.database import Database

from .report import Servers

READY_SECONDS = 120.0
END_SECONDS = 30.0
INGEST_ALONE = """
from functools import partial
from antiphon.chassis import process, telemetry
from antiphon.chassis.settings import load
from antiphon.persistence.run import run
from antiphon.persistence.settings import PersistenceSettings
settings = load(PersistenceSettings)
telemetry.configure("persistence", settings)
process.run(partial(run, settings, projections=()))
"""


def environment(servers: Servers) -> dict[str, str]:
    """Return the environment of a persistence process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "ANTIPHON_PERSISTENCE_HEALTH_PORT": str(port),
        "ANTIPHON_LOG_LEVEL": "error",
    }


@asynccontextmanager
async def running(
    servers: Servers, *options: str, views: Sequence[str] | None = None
) -> AsyncIterator[psutil.Process]:
    """Run `persistence run` with options while the block runs, from when it is ready.

    `views` are those that it keeps up to date: all for None, also none.
    """
    variables = environment(servers)
    run = ["-m", "antiphon.persistence", "run", *(["--only", ",".join(views)] if views else []), *options]
    command = [sys.executable, *(["-c", INGEST_ALONE] if views is not None and not views else run)]
    # not asyncio's: uvloop detects the end of a child only in the first loop of a process
    process = subprocess.Popen(command, env=variables)  # noqa: ASYNC220
    try:
        await _ready(int(variables["ANTIPHON_PERSISTENCE_HEALTH_PORT"]), process)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, END_SECONDS)


async def command(servers: Servers, *arguments: str) -> float:
    """Run a persistence command to its end; return its peak memory in MiB. Raises RuntimeError."""
    full = [sys.executable, "-m", "antiphon.persistence", *arguments]
    process = subprocess.Popen(  # noqa: ASYNC220
        full, env=environment(servers), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = await asyncio.to_thread(process.stderr.read)
    _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {errors.decode()}")
    return usage.ru_maxrss / 1024


async def until(database: Database, query: str, *arguments: object) -> None:
    """Wait until a query returns true."""
    while not await database.pool.fetchval(query, *arguments):  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.02)


async def _ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"persistence ended with {process.returncode} before it was ready")
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /health/ready HTTP/1.0\r\n\r\n")
                answer = await reader.readline()
                writer.close()
            except OSError:
                answer = b""
            if b"200" in answer:
                return
            await asyncio.sleep(0.1)
