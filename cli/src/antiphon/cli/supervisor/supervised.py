import asyncio
import os
import time
from collections.abc import Callable
from subprocess import Popen

import psutil

from antiphon.cli.errors import StackError
from antiphon.cli.stack import child
from antiphon.cli.stack.ports import require_free
from antiphon.cli.supervisor.definition import Service
from antiphon.cli.supervisor.orphans import end_session
from antiphon.cli.supervisor.state import ServiceState

LOOK_SECONDS = 2.0  # between two looks at a ready service
EAGER_LOOK_SECONDS = 0.1  # between two looks at one that is not ready yet
FIRST_PAUSE_SECONDS = 0.5  # before a restart; doubles with each that comes soon after the last
LONGEST_PAUSE_SECONDS = 10.0
STEADY_SECONDS = 60.0  # a service that ran this long has earned a quick restart
TRIES_AT_START = 3


class Supervised:
    """Keep one service running: start it, look whether it is ready, start it again when it ends."""

    def __init__(self, service: Service, changed: Callable[[ServiceState], None]) -> None:
        self.service = service
        self.state = ServiceState(service.name)
        self._changed = changed
        self._process: Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._leftovers: set[asyncio.Task[None]] = set()
        self._deaths = 0  # in a row, each soon after its start

    async def start(self, *, timeout_seconds: float) -> None:
        """Start the service and wait until it is ready.

        Raises StackError with the end of its log when it ends several times or is not ready in time.
        """
        self._task = asyncio.create_task(self._keep_running(), name=f"supervise {self.service.name}")
        deadline = time.monotonic() + timeout_seconds
        while not self.state.ready:
            if self._task.done():
                self._task.result()
            if self._deaths >= TRIES_AT_START or time.monotonic() > deadline:
                raise StackError(self._why_not())
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop the service in good order, or kill it when its time is over."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, *self._leftovers, return_exceptions=True)
        if self._process:
            command = self._command
            self._note(ready=False, detail="stopping")
            await asyncio.to_thread(
                child.stop, self._process, command.stop_signals, patience_seconds=command.stop_seconds
            )
        self._note(pid=None, started=None, ready=False, detail="stopped")

    async def _keep_running(self) -> None:
        while True:
            began = time.monotonic()
            detail = await self._run_once(first=self._deaths == 0 and self.state.restarts == 0)
            self._deaths = 1 if time.monotonic() - began > STEADY_SECONDS else self._deaths + 1
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1), LONGEST_PAUSE_SECONDS)
            self._note(pid=None, started=None, ready=False, detail=f"{detail}; starts again in {pause:g} s")
            await asyncio.sleep(pause)
            self.state.restarts += 1

    async def _run_once(self, *, first: bool) -> str:
        try:
            for port in self.service.ports:
                require_free(port)
            self._command = await asyncio.to_thread(self.service.prepare)
        except StackError as error:
            if first:
                raise
            return str(error)
        # in the main thread: the child dies with the thread that starts it
        process = self._process = child.spawn(self._command, self.service.output)
        started = psutil.Process(process.pid).create_time()
        self._note(pid=process.pid, started=started, ready=False, detail="starting")
        looking = asyncio.create_task(self._look(), name=f"look at {self.service.name}")
        try:
            code = await _end_of(process)
        finally:
            looking.cancel()
        self._process = None
        # what the dead process had started gets time to finish, while its successor starts
        leftovers = asyncio.create_task(asyncio.to_thread(end_session, process.pid, started))
        self._leftovers.add(leftovers)
        leftovers.add_done_callback(self._leftovers.discard)
        return f"ended with code {code}" if code >= 0 else f"killed by signal {-code}"

    async def _look(self) -> None:
        while True:
            reason = await asyncio.to_thread(self.service.probe)
            self._note(ready=reason is None, detail=reason or "ready")
            await asyncio.sleep(EAGER_LOOK_SECONDS if reason else LOOK_SECONDS)

    def _note(self, **changes: object) -> None:
        if any(getattr(self.state, name) != value for name, value in changes.items()):
            for name, value in changes.items():
                setattr(self.state, name, value)
            self._changed(self.state)

    def _why_not(self) -> str:
        detail = f"{self.service.name} did not become ready: {self.state.detail}"
        output = self.service.output
        return f"{detail}\n{child.last_lines(output)}" if output.exists() else detail


async def _end_of(process: Popen[bytes]) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()
