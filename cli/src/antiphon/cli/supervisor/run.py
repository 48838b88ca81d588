import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psutil

from antiphon.cli.errors import StackError
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.ports import require_free
from antiphon.cli.supervisor import setup
from antiphon.cli.supervisor.board import Board
from antiphon.cli.supervisor.definition import Probe, Service
from antiphon.cli.supervisor.log_files import keep_small
from antiphon.cli.supervisor.orphans import end_orphans
from antiphon.cli.supervisor.plan import Plan, given_livekit
from antiphon.cli.supervisor.state import ServiceState, State, Step, read_state
from antiphon.cli.supervisor.supervised import LOOK_SECONDS, Supervised

READY_SECONDS = 120.0
STEPS = ("NATS", "Postgres", "LiveKit", "streams and key", "tables", "flows")
# each waits for a probe, a child's end or a file; none computes
THREADS = 24


class Supervisor:
    """Hold one stack: bring it up in order, keep it up, take it down in reverse order."""

    def __init__(self, settings: StackSettings, plan: Plan) -> None:
        self.settings = settings
        self.plan = plan
        self._running: list[Supervised] = []
        self._tending: list[asyncio.Task[None]] = []
        before = read_state(settings.home)
        self.healed = end_orphans(before) if before else []
        names = ["nats", "postgres", "livekit", *(service.name for service in self.plan.services())]
        me = psutil.Process(os.getpid())
        self.board = Board(
            settings.home,
            State(
                supervisor_pid=me.pid,
                supervisor_started=me.create_time(),
                addresses=self.plan.addresses(),
                steps=[Step(name) for name in (*STEPS, *names[3:])],
                services=[ServiceState(name) for name in names],
            ),
        )

    async def hold(self, stop: asyncio.Event) -> None:
        """Bring the stack up, keep it until told to stop, and take it down.

        Raises StackError when it does not come up; nothing of it is left running then.
        """
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        self._tending.append(asyncio.create_task(keep_small(self.plan.logs), name="keep logs small"))
        coming_up = asyncio.create_task(self._come_up(), name="come up")
        told = asyncio.create_task(stop.wait(), name="told to stop")
        try:
            await asyncio.wait([coming_up, told], return_when=asyncio.FIRST_COMPLETED)
            if coming_up.done():
                coming_up.result()
                self.board.enter("up")
                await told
            self.board.enter("stopping")
        finally:
            tasks = (*self._tending, coming_up, told)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._go_down()
        self.board.enter("stopped")

    async def _come_up(self) -> None:
        infrastructure, services = self.plan.infrastructure(), self.plan.services()
        for service in (*infrastructure, *services):
            for port in service.ports:
                require_free(port)
        nats, postgres, *livekit = infrastructure
        await _all(
            self._broker_side(nats),
            self._database_side(postgres),
            self._own_livekit(livekit[0]) if livekit else self._given_livekit(),
        )
        await _all(*(self._start(service.name, service) for service in services))

    async def _broker_side(self, nats: Service) -> None:
        await self._start("NATS", nats)
        with self.board.step("streams and key"):
            async with setup.connected(self.plan.nats.url) as bus:
                await bus.ensure()
                await setup.admit(bus, self.plan.credentials.api_key, datetime.now(UTC))
        with self.board.step("flows"):
            output = self.plan.logs / "flows.log"
            await setup.run_to_end("publishing the flows", self.plan.publish_flows(), output)

    async def _database_side(self, postgres: Service) -> None:
        await self._start("Postgres", postgres)
        with self.board.step("tables"):
            output = self.plan.logs / "migrate.log"
            await setup.run_to_end("persistence migrate", self.plan.migrate(), output)

    async def _own_livekit(self, livekit: Service) -> None:
        await self._start("LiveKit", livekit)

    async def _given_livekit(self) -> None:
        with self.board.step("LiveKit") as step:
            step.detail = f"yours, at {self.settings.livekit_url}"
            probe = given_livekit(self.settings)
            if reason := await asyncio.to_thread(probe):
                raise StackError(reason)
        self._tending.append(asyncio.create_task(self._look_at_given(probe), name="look at LiveKit"))

    async def _look_at_given(self, probe: Probe) -> None:
        while True:
            reason = await asyncio.to_thread(probe)
            detail = reason or f"yours, at {self.settings.livekit_url}"
            self.board.show(ServiceState("livekit", ready=reason is None, detail=detail))
            await asyncio.sleep(LOOK_SECONDS)

    async def _start(self, step: str, service: Service) -> None:
        with self.board.step(step):
            supervised = Supervised(service, self.board.show)
            self._running.append(supervised)
            await supervised.start(timeout_seconds=READY_SECONDS)

    async def _go_down(self) -> None:
        # the order of the plan, not of the start: services before what they need
        order = [service.name for service in (*self.plan.infrastructure(), *self.plan.services())]
        for supervised in sorted(self._running, key=lambda s: order.index(s.state.name), reverse=True):
            await supervised.stop()


async def _all(*steps: Coroutine[None, None, None]) -> None:
    """Run steps side by side to their end; the first that fails ends the others and is what is raised."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
