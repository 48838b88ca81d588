"""The memory of an export does not grow with the log, neither of the command nor of session-api."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fixtures.synthetic_log import BEGAN, fill
from tests.session_api.conftest import Buckets, buckets, free_port

from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer

__all__ = ["buckets"]

pytestmark = pytest.mark.slow

FEW, MANY = 25_000, 100_000
MAX_GROWTH_MIB = 20.0  # for 75,000 events more, of 50 MiB
# not `ru_maxrss`, which begins with the memory of the process that started this one
MEASURED = """
import sys
from antiphon.cli.main import app
try:
    app()
finally:
    [peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(peak.split()[1], file=sys.stderr)
"""


class Server:
    """A session-api in a process of its own."""

    def __init__(self, port: int, process: int) -> None:
        self.environment = {
            **os.environ,
            "ANTIPHON_API_URL": f"http://127.0.0.1:{port}",
            "ANTIPHON_API_KEY": "reader",
        }
        self._status = Path(f"/proc/{process}/status")

    def peak_mib(self) -> float:
        """Return the most memory that it ever had."""
        lines = self._status.read_text().splitlines()
        [line] = [line for line in lines if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    async def export(self, *options: str) -> float:
        """Run the command; return the most memory that it had, in MiB."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, "export", *options), env=self.environment, stderr=PIPE
        )
        async with asyncio.timeout(150):
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return int(errors.split()[-1]) / 1024


@pytest.fixture
async def server(nats_server: NatsServer, postgres_dsn: str, buckets: Buckets) -> AsyncIterator[Server]:
    """A session-api that accepts requests."""
    port = free_port()
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": nats_server.url,
        "ANTIPHON_POSTGRES_DSN": postgres_dsn,
        "ANTIPHON_API_PORT": str(port),
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.session_api", env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    async with asyncio.timeout(60):
        while True:
            try:
                _, connection = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                connection.close()
                break
    yield Server(port, process.pid)
    process.terminate()
    await asyncio.wait_for(process.wait(), 60)


@pytest.mark.timeout(400)
async def test_four_times_the_events_take_the_same_memory(
    server: Server, database: Database, tmp_path: Path
) -> None:
    await fill(database, MANY)
    until = (BEGAN + timedelta(seconds=FEW)).isoformat()

    for form in ("ndjson", "parquet"):
        few = await server.export(
            "--format", form, "--output", str(tmp_path / f"few-{form}"), "--until", until
        )
        of_server = server.peak_mib()
        many = await server.export("--format", form, "--output", str(tmp_path / f"many-{form}"))

        print(f"{form}: {few:.0f} MiB, {many:.0f} MiB; session-api {of_server:.0f}, {server.peak_mib():.0f}")
        assert many < few + MAX_GROWTH_MIB
        assert server.peak_mib() < of_server + MAX_GROWTH_MIB

    assert (tmp_path / "many-ndjson").read_bytes().count(b"\n") == MANY
