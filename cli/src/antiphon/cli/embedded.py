import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import psutil

from antiphon.cli.errors import StackError
from antiphon.cli.home import claim, is_locked
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import disk, process
from antiphon.cli.stack.livekit_build import Report, find_livekit
from antiphon.cli.stack.process import Command
from antiphon.cli.status import Status, live_state, status_of
from antiphon.cli.supervisor.orphans import end_orphans, is_running
from antiphon.cli.supervisor.state import State, read_state

SUPERVISOR = (sys.executable, "-m", "antiphon.cli.supervisor")
UP_SECONDS = 300.0
DOWN_SECONDS = 120.0
POLL_SECONDS = 0.1


class EmbeddedStack:
    """An embedded stack: started, watched and stopped here, run by a supervisor process.

    As a context manager it runs for the length of the block. A stack that is not detached ends with
    the thread that starts it (on Linux, even after SIGKILL).
    """

    def __init__(self, settings: StackSettings, *, supervisor: Sequence[str] = SUPERVISOR) -> None:
        self.settings = settings
        self.supervisor = tuple(supervisor)
        self.output = settings.home / "logs" / "supervisor.log"
        self._supervisor: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *,
        detached: bool = False,
        building: Report = lambda _: None,
        watching: Callable[[State], None] = lambda _: None,
        timeout_seconds: float = UP_SECONDS,
    ) -> None:
        """Start the stack unless it runs already, and wait until every service is ready.

        Raises StackError if it does not start; no process is left running.
        """
        self._wait_for_previous()
        if not is_locked(self.settings.home):
            disk.require_for_home(self.settings.home)
            if not self.settings.livekit_url:
                find_livekit(self.settings.cache, building)
            self._launch(detached)
        self._follow(watching, timeout_seconds)

    def wait(self) -> None:
        """Wait for the supervisor that this object started to exit."""
        if self._supervisor:
            self._supervisor.wait()

    def status(self) -> Status:
        """Return the current status of the stack."""
        return status_of(self.settings)

    def stop(self) -> bool:
        """Stop everything gracefully; return whether anything was running."""
        if self._supervisor and self._supervisor.poll() is None:
            _end(self._supervisor.pid, psutil.Process(self._supervisor.pid).create_time())
            self._supervisor.wait(10)
            stopped = True
        elif state := self._live_state():
            _end(state.supervisor_pid, state.supervisor_started)
            stopped = True
        else:
            stopped = False
        remaining = read_state(self.settings.home)
        return (bool(end_orphans(remaining)) if remaining else False) or stopped

    def kill(self) -> None:
        """Kill the supervisor with SIGKILL; its children die with it (Linux)."""
        state = live_state(self.settings)
        if state is None:
            raise StackError(f"no stack runs in {self.settings.home}")
        os.kill(state.supervisor_pid, signal.SIGKILL)
        if self._supervisor:
            self._supervisor.wait(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, detached: bool) -> None:
        claim(self.settings.home)
        self.output.write_bytes(b"")
        command = Command(
            argv=self.supervisor,
            environment=dict(os.environ) | self.settings.environment(),
            directory=self.settings.home,
            orphan_signal=None if detached else signal.SIGTERM,
        )
        self._supervisor = process.spawn(command, self.output)

    def _follow(self, watching: Callable[[State], None], timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            state = read_state(self.settings.home)
            if state and self._is_current(state):
                watching(state)
                if state.phase == "up" and all(service.ready for service in state.services):
                    return
            if not self._alive():
                raise StackError(self._failure())
            if time.monotonic() > deadline:
                raise StackError(f"the stack was not ready after {timeout_seconds:g} s: see antiphon status")
            time.sleep(POLL_SECONDS)

    def _wait_for_previous(self) -> None:
        deadline = time.monotonic() + DOWN_SECONDS
        while (state := live_state(self.settings)) and state.phase not in ("starting", "up"):
            if time.monotonic() > deadline:
                raise StackError(f"process {state.supervisor_pid} has not ended yet: see {self.output}")
            time.sleep(POLL_SECONDS)

    def _live_state(self) -> State | None:
        """Return the state of the live supervisor, once it has written one."""
        while is_locked(self.settings.home):
            state = read_state(self.settings.home)
            if state and is_running(state.supervisor_pid, state.supervisor_started):
                return state
            time.sleep(POLL_SECONDS)
        return None

    def _is_current(self, state: State) -> bool:
        return self._supervisor is None or state.supervisor_pid == self._supervisor.pid

    def _alive(self) -> bool:
        return self._supervisor.poll() is None if self._supervisor else is_locked(self.settings.home)

    def _failure(self) -> str:
        state = read_state(self.settings.home)
        if state and self._is_current(state) and state.failure:
            return state.failure
        return f"the supervisor ended:\n{process.last_lines(self.output)}"


def _end(supervisor: int, started: float) -> None:
    os.kill(supervisor, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while is_running(supervisor, started):
        if time.monotonic() > deadline:
            os.kill(supervisor, signal.SIGKILL)  # its children die with it
            return
        time.sleep(POLL_SECONDS)
