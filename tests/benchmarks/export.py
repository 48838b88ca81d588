"""Export: events a second as NDJSON and as Parquet, and their memory, against a bare copy of the rows."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import asyncpg
from tests.fixtures.synthetic_log import fill

from antiphon.chassis.database import Database

from .create import KEY, UNLIMITED, prepare, serving
from .report import Report, Result, Servers

EVENTS = 100_000
PASSES = 2  # of which the faster counts
# the events of all partitions, each in order: what an export reads
SELECT = "select sequence, position, envelope from event_log order by partition, position"
CHILD = """
import sys, time
import antiphon.cli.commands.export, antiphon.cli.export.parquet
from antiphon.cli.main import app
began = time.perf_counter()
try:
    app()
finally:
    [peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(time.perf_counter() - began, int(peak.split()[1]) / 1024, file=sys.stderr)
"""


async def run(servers: Servers, report: Report) -> None:
    """Copy the rows with Postgres alone, then export them with the command through session-api."""
    report.step(f"make a log of {EVENTS:,} events", seconds=120)
    database = await Database.connect(servers.dsn, max_size=2, statement_timeout_seconds=60)
    try:
        await fill(database, EVENTS)
    finally:
        await database.close()
    report.step("copy the rows with Postgres alone", seconds=60)
    bare = EVENTS / min([await _copy(servers.dsn) for _ in range(PASSES)])
    await prepare(servers.nats_url)
    variables = {
        "ANTIPHON_NATS_URL": servers.nats_url,
        "ANTIPHON_POSTGRES_DSN": servers.dsn,
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
        **UNLIMITED,
    }
    async with serving(("antiphon.session_api",), variables) as (port, process):
        for form, options in (
            ("ndjson", ()),
            ("parquet", ()),
            ("parquet, without personal fields", ("--without-pii",)),
        ):
            report.step(f"export as {form}", seconds=120)
            await _export(servers, report, port, form, options, bare)
        report.row(Result(name="export: peak memory of session-api", value=_peak_mib(process), unit="MiB"))


async def _copy(dsn: str) -> float:
    """Return the seconds that a bare copy of the rows to a file takes."""
    connection = await asyncpg.connect(dsn)
    try:
        began = time.perf_counter()
        await connection.copy_from_query(SELECT, output=Path(os.devnull))
        return time.perf_counter() - began
    finally:
        await connection.close()


async def _export(
    servers: Servers, report: Report, port: int, form: str, options: tuple[str, ...], bare: float
) -> None:
    runs = []
    for number in range(PASSES):
        output = Path(servers.folder) / f"{form}-{number}"
        runs.append(await _command(port, form.partition(",")[0], output, options))
    seconds = min(run[0] for run in runs)
    report.row(
        Result(
            name=f"export as {form}",
            value=EVENTS / seconds,
            unit="events/s",
            baseline_name="copy by Postgres alone",
            baseline=bare,
            better="higher",
        )
    )
    report.row(Result(name=f"export as {form}: peak memory", value=max(run[1] for run in runs), unit="MiB"))


async def _command(port: int, form: str, output: Path, options: tuple[str, ...]) -> tuple[float, float]:
    """Run the command; return its seconds, from when the code is imported, and its peak memory in MiB."""
    environment = {
        **os.environ,
        "ANTIPHON_API_URL": f"http://127.0.0.1:{port}",
        "ANTIPHON_API_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, "export", "--format", form, "--output", str(output), *options),
        env=environment,
        stderr=PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
    seconds, mib = errors.split()[-2:]
    return float(seconds), float(mib)


def _peak_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
