import asyncio
import os
import shutil
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from antiphon.chassis.background import BackgroundTask
from antiphon.cli.errors import StackError
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.ports import require_address, require_free
from antiphon.cli.stack.probe import Probe
from antiphon.cli.supervisor import setup
from antiphon.cli.supervisor.orphans import end_orphans
from antiphon.cli.supervisor.plan import Plan, external_livekit
from antiphon.cli.supervisor.runner import PROBE_SECONDS, Service, ServiceRunner
from antiphon.cli.supervisor.state import ServiceState, State, StateFile, Step, read_state

READY_SECONDS = 120.0
STEPS = ("NATS", "Postgres", "LiveKit", "buckets and key", "tables", "flows")
RECREATE = "stream"  # a step, if the operator asks for it
THREADS = 24  # for probes and files, which mostly wait
LARGEST_LOG_BYTES = 10 * 1024 * 1024
ROTATION_SECONDS = 30.0


class Supervisor:
    """The supervisor of one stack: starts it in order, keeps it running, stops it in reverse order."""

    def __init__(self, settings: StackSettings, plan: Plan) -> None:
        self.settings = settings
        self.plan = plan
        self._runners: list[ServiceRunner] = []
        self._background: list[BackgroundTask] = []
        before = read_state(settings.home)
        self.ended_orphans = end_orphans(before) if before else []
        names = ["nats", "postgres", "livekit", *(service.name for service in self.plan.services())]
        steps = [*STEPS, *([RECREATE] if settings.recreate_streams else []), *names[3:]]
        self.state = StateFile(
            settings.home,
            State(
                supervisor_pid=os.getpid(),
                addresses=self.plan.addresses(),
                steps=[Step(name) for name in steps],
                services=[ServiceState(name) for name in names],
            ),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Start the stack, keep it running until `stop` is set, and stop it.

        Raises StackError if it does not start; no process is left running.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        self._background.append(BackgroundTask(lambda: _rotate_logs(self.plan.logs), name="rotate logs"))
        starting = asyncio.create_task(self._start_all(), name="start")
        stopping = asyncio.create_task(stop.wait(), name="wait for stop")
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self.state.set_phase("up")
                await stopping
            self.state.set_phase("stopping")
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            for background in self._background:
                await background.close()
            await self._stop_all()
        self.state.set_phase("stopped")

    async def _start_all(self) -> None:
        require_address(self.settings.api_host, "ANTIPHON_API_HOST")
        require_address(self.settings.webhooks_host, "ANTIPHON_WEBHOOKS_HOST")
        infrastructure, services = self.plan.infrastructure(), self.plan.services()
        for service in (*infrastructure, *services):
            for port in service.ports:
                require_free(port)
        nats, postgres, *livekit = infrastructure
        await _run_together(
            self._start_broker(nats),
            self._start_database(postgres),
            self._start("LiveKit", livekit[0]) if livekit else self._check_external_livekit(),
        )
        if self.settings.recreate_streams:
            with self.state.step(RECREATE):
                output = self.plan.logs / "streams.log"
                await setup.run_to_end("streams recreate", self.plan.recreate_streams(), output)
        await _run_together(*(self._start(service.name, service) for service in services))

    async def _start_broker(self, nats: Service) -> None:
        await self._start("NATS", nats)
        with self.state.step("buckets and key"):
            async with setup.connected(self.plan.nats_access) as bus:
                # Only persistence creates the stream of events: it knows what was read from it.
                await bus.ensure_buckets()
                await setup.make_identity(bus)
                await setup.publish_key(bus, self.plan.credentials.api_key, datetime.now(UTC))
        with self.state.step("flows"):
            output = self.plan.logs / "flows.log"
            await setup.run_to_end("publishing the flows", self.plan.publish_flows(), output)

    async def _start_database(self, postgres: Service) -> None:
        await self._start("Postgres", postgres)
        with self.state.step("tables"):
            output = self.plan.logs / "migrate.log"
            await setup.run_to_end("persistence migrate", self.plan.migrate(), output)
            await setup.run_to_end("persistence roles", self.plan.make_logins(), output)

    async def _check_external_livekit(self) -> None:
        with self.state.step("LiveKit") as step:
            step.detail = f"external, at {self.settings.livekit_url}"
            probe = external_livekit(self.settings)
            if reason := await asyncio.to_thread(probe):
                raise StackError(reason)
        watching = BackgroundTask(lambda: self._watch_external_livekit(probe), name="LiveKit")
        self._background.append(watching)

    async def _watch_external_livekit(self, probe: Probe) -> None:
        while True:
            reason = await asyncio.to_thread(probe)
            detail = reason or f"external, at {self.settings.livekit_url}"
            self.state.set_service(ServiceState("livekit", ready=reason is None, detail=detail))
            await asyncio.sleep(PROBE_SECONDS)

    async def _start(self, step: str, service: Service) -> None:
        with self.state.step(step):
            runner = ServiceRunner(service, self.state.set_service)
            self._runners.append(runner)
            await runner.start(timeout_seconds=READY_SECONDS)

    async def _stop_all(self) -> None:
        # in reverse order of the plan, so that services stop before the servers that they need
        order = [service.name for service in (*self.plan.infrastructure(), *self.plan.services())]
        for runner in sorted(self._runners, key=lambda s: order.index(s.state.name), reverse=True):
            await runner.stop()


async def _run_together(*steps: Coroutine[None, None, None]) -> None:
    """Run steps concurrently; the first failure cancels the others and is raised."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _rotate_logs(folder: Path) -> None:
    while True:
        await asyncio.to_thread(rotate_logs, folder)
        await asyncio.sleep(ROTATION_SECONDS)


def rotate_logs(folder: Path, largest_bytes: int = LARGEST_LOG_BYTES) -> None:
    """Copy each large log to `*.log.1` and truncate it in place, since its writer appends to it."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > largest_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+") as file:
                file.truncate()
