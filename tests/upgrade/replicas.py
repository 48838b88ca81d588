"""Processes of services, of this version or of the release before, on a port each."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from antiphon.cli.stack.ports import free_port

LOOPBACK = "127.0.0.1"
READY_SECONDS = 240.0
END_SECONDS = 60.0

MODULES = {
    "persistence": ("antiphon.persistence", "run"),
    "session-api": ("antiphon.session_api",),
    "webhook-ingest": ("antiphon.webhook_ingest",),
    "agent-worker": ("antiphon.agent_worker", "run"),
}
PORTS = {
    "persistence": "ANTIPHON_PERSISTENCE_HEALTH_PORT",
    "session-api": "ANTIPHON_API_PORT",
    "webhook-ingest": "ANTIPHON_WEBHOOKS_PORT",
    "agent-worker": "ANTIPHON_AGENT_HEALTH_PORT",
}


@dataclass
class Replica:
    """One process of a service."""

    service: str
    process: Process
    port: int
    log: Path

    async def is_ready(self) -> bool:
        """Tell whether its readiness route answers 200."""
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                response = await client.get(f"http://{LOOPBACK}:{self.port}/health/ready")
        except httpx.HTTPError:
            return False
        return response.status_code == httpx.codes.OK

    async def until_ready(self) -> None:
        """Wait until it is ready."""
        async with asyncio.timeout(READY_SECONDS):
            while not await self.is_ready():
                assert self.process.returncode is None, self.log.read_text()[-4000:]
                await asyncio.sleep(0.05)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.tell(number)
        return await self.ended()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it has ended, and return the exit code."""
        return await asyncio.wait_for(self.process.wait(), END_SECONDS)


@dataclass
class Release:
    """One version of the code: where it is, and the environment of its processes."""

    name: str
    pythonpath: str
    folder: Path  # of the logs
    variables: Mapping[str, str]
    started: list[Replica] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process."""
        return {**os.environ, **self.variables, "PYTHONPATH": self.pythonpath, **more}

    async def start(self, service: str, **variables: str) -> Replica:
        """Start a replica; it may not be ready yet."""
        port = free_port()
        log = self.folder / f"{self.name}-{service}-{port}.log"
        environment = self.environment(**{PORTS[service]: str(port)}, **variables)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *MODULES[service], env=environment, stdout=output, stderr=output
            )
        replica = Replica(service, process, port, log)
        self.started.append(replica)
        return replica

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return its code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            env=self.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), READY_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output.decode()

    async def kill(self) -> None:
        """Kill what still runs."""
        for replica in self.started:
            await replica.end(signal.SIGKILL)
