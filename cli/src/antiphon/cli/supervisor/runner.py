import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.settings import EXIT_BAD_SETTINGS
from antiphon.cli.errors import StackError
from antiphon.cli.stack import process as processes
from antiphon.cli.stack.linux import wait_for_exit
from antiphon.cli.stack.ports import PortUse, require_free
from antiphon.cli.stack.probe import Probe
from antiphon.cli.stack.process import Command
from antiphon.cli.supervisor.orphans import end_session
from antiphon.cli.supervisor.state import ServiceState

PROBE_SECONDS = 5.0  # between two probes of a ready service; its exit is noticed at once
EAGER_PROBE_SECONDS = 0.1  # between two probes of one that is not ready
FIRST_BACKOFF_SECONDS = 0.5  # before a restart; doubles with each failure in a row
LONGEST_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 60.0  # of running, after which the backoff is reset
TRIES_AT_START = 3


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the stack: its command, its readiness probe, the ports that it binds."""

    name: str
    prepare: Callable[[], Command]  # may write files and block
    probe: Probe
    ports: tuple[PortUse, ...]
    output: Path
    # whether a restart makes it ready again, by the reason why it is not; may block
    restart_cures: Callable[[str], bool] = lambda _: False


class ServiceRunner:
    """A runner of one service: starts it, probes it, restarts it when it exits."""

    def __init__(self, service: Service, changed: Callable[[ServiceState], None]) -> None:
        self.service = service
        self.state = ServiceState(service.name)
        self._changed = changed
        self._process: Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._failures = 0  # in a row
        self._misconfigured = False  # the last run ended because of its settings

    async def start(self, *, timeout_seconds: float) -> None:
        """Start the service and wait until it is ready.

        Raises StackError with the end of its log if it exits three times, once because of its settings, or is
        not ready in time.
        """
        self._task = asyncio.create_task(self._keep_running(), name=f"supervise {self.service.name}")
        deadline = time.monotonic() + timeout_seconds
        while not self.state.ready:
            if self._task.done():
                self._task.result()
            tries = 1 if self._misconfigured else TRIES_AT_START
            if self._failures >= tries or time.monotonic() > deadline:
                raise StackError(self._failure())
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop the service gracefully; kill it after its timeout."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, *self._ending, return_exceptions=True)
        if self._process:
            command = self._command
            self._update(ready=False, detail="stopping")
            await asyncio.to_thread(
                processes.stop, self._process, command.stop_signals, timeout_seconds=command.stop_seconds
            )
        self._update(pid=None, started=None, ready=False, detail="stopped")

    async def _keep_running(self) -> None:
        while True:
            began = time.monotonic()
            first = self._failures == 0 and self.state.restarts == 0
            try:
                detail = await self._run_once(first=first)
            except Exception as error:
                if first:
                    raise  # in `start`
                detail = f"could not be run: {error!r}"
            self._failures = 1 if time.monotonic() - began > STEADY_SECONDS else self._failures + 1
            backoff = min(FIRST_BACKOFF_SECONDS * 2 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS)
            self._update(pid=None, started=None, ready=False, detail=f"{detail}; restarting in {backoff:g} s")
            await asyncio.sleep(backoff)
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
        # not in a worker thread: the child gets its orphan signal when the starting thread ends
        process = self._process = processes.spawn(self._command, self.service.output)
        started = psutil.Process(process.pid).create_time()
        self._update(pid=process.pid, started=started, ready=False, detail="starting")
        probing = BackgroundTask(lambda: self._probe(process), name=f"probe {self.service.name}")
        try:
            code = await wait_for_exit(process)
        finally:
            await probing.close()
        self._process = None
        self._misconfigured = code == EXIT_BAD_SETTINGS
        # children of the old process may still be ending while the new one starts
        ending = asyncio.create_task(asyncio.to_thread(end_session, process.pid, started))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return f"ended with code {code}" if code >= 0 else f"killed by signal {-code}"

    async def _probe(self, process: Popen[bytes]) -> None:
        while True:
            reason = await asyncio.to_thread(self.service.probe)
            self._update(ready=reason is None, detail=reason or "ready")
            if reason is not None and await asyncio.to_thread(self.service.restart_cures, reason):
                print(f"restarting {self.service.name}: {reason}", flush=True)
                command = self._command
                await asyncio.to_thread(
                    processes.stop, process, command.stop_signals, timeout_seconds=command.stop_seconds
                )
            await asyncio.sleep(EAGER_PROBE_SECONDS if reason else PROBE_SECONDS)

    def _update(self, **changes: object) -> None:
        if any(getattr(self.state, name) != value for name, value in changes.items()):
            for name, value in changes.items():
                setattr(self.state, name, value)
            self._changed(self.state)

    def _failure(self) -> str:
        detail = f"{self.service.name} did not become ready: {self.state.detail}"
        output = self.service.output
        return f"{detail}\n{processes.last_lines(output)}" if output.exists() else detail
