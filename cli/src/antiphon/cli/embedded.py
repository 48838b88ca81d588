import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from antiphon.chassis.secret_files import without_files_of
from antiphon.cli.errors import StackError
from antiphon.cli.home import claim, one_command, supervisor_of, was_claimed
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import disk, process
from antiphon.cli.stack.livekit_build import Report, find_livekit
from antiphon.cli.stack.process import Command
from antiphon.cli.status import Status, live_state, status_of
from antiphon.cli.supervisor.orphans import end_orphans
from antiphon.cli.supervisor.setup import credentials_of
from antiphon.cli.supervisor.state import State, read_state

SUPERVISOR = (sys.executable, "-m", "antiphon.cli.supervisor")
UP_SECONDS = 300.0
DOWN_SECONDS = 120.0
LAUNCH_SECONDS = 60.0  # for the supervisor to take its lock
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

    @property
    def launched(self) -> bool:
        """Whether this object has launched a supervisor; else another command has, or none."""
        return self._supervisor is not None

    def start(
        self,
        *,
        detached: bool = False,
        building: Report = lambda _: None,
        watching: Callable[[State], None] = lambda _: None,
        timeout_seconds: float = UP_SECONDS,
    ) -> bool:
        """Start the stack unless it runs already, and wait until every service is ready.

        Returns False if another command has started it. Raises StackError if it does not start; no process is
        left running.
        """
        home = self.settings.home
        down = supervisor_of(home) is None
        if down:
            disk.require_for_home(home)
        claim(home)
        if down and not self.settings.livekit_url:
            find_livekit(self.settings.cache, building)
        with one_command(home, seconds=DOWN_SECONDS + LAUNCH_SECONDS):
            self._wait_for_previous()
            supervisor = supervisor_of(home)
            started = supervisor is None
            if supervisor is None:
                supervisor = self._launch(detached)
        self._follow(supervisor, watching, timeout_seconds)
        return started

    def wait(self) -> None:
        """Wait for the supervisor that this object started to exit."""
        if self._supervisor:
            self._supervisor.wait()

    def status(self) -> Status:
        """Return the current status of the stack."""
        return status_of(self.settings)

    def stop(self, *, watching: Callable[[State], None] = lambda _: None) -> bool:
        """Stop everything gracefully; return whether anything was running.

        A command that starts the stack at this moment is waited for, until its supervisor can be stopped.
        """
        home = self.settings.home
        if not was_claimed(home):
            return False
        with one_command(home, seconds=DOWN_SECONDS + LAUNCH_SECONDS):
            own = self._supervisor if self._supervisor and self._supervisor.poll() is None else None
            supervisor = own.pid if own else supervisor_of(home)
            if supervisor is not None:
                ended = own.poll if own else lambda: _ended(home, supervisor)
                _end(supervisor, ended, lambda: _report(home, supervisor, watching))
            remaining = read_state(home)
            orphans = end_orphans(remaining) if remaining else []
            return supervisor is not None or bool(orphans)

    def kill(self) -> None:
        """Kill the supervisor with SIGKILL; its children die with it (Linux)."""
        supervisor = supervisor_of(self.settings.home)
        if supervisor is None:
            raise StackError(f"no stack runs in {self.settings.home}")
        os.kill(supervisor, signal.SIGKILL)
        if self._supervisor:
            self._supervisor.wait(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, detached: bool) -> int:
        """Launch a supervisor, wait until it has its lock or has ended, and return its process id."""
        home = self.settings.home
        credentials_of(self.settings)  # raises if they are damaged
        self.output.write_bytes(b"")
        command = Command(
            argv=self.supervisor,
            environment=without_files_of(os.environ, given := self.settings.environment()) | given,
            directory=home,
            orphan_signal=None if detached else signal.SIGTERM,
        )
        launched = self._supervisor = process.spawn(command, self.output)
        deadline = time.monotonic() + LAUNCH_SECONDS
        while launched.poll() is None and supervisor_of(home) != launched.pid:
            if time.monotonic() > deadline:
                process.kill(launched)
            time.sleep(POLL_SECONDS)
        return launched.pid

    def _follow(self, supervisor: int, watching: Callable[[State], None], timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            alive = supervisor_of(self.settings.home) == supervisor
            state = read_state(self.settings.home)
            if not alive:
                raise StackError(self._failure(supervisor))
            if state and state.supervisor_pid == supervisor:
                watching(state)
                if state.phase == "up" and all(service.ready for service in state.services):
                    return
            if time.monotonic() > deadline:
                raise StackError(f"the stack was not ready after {timeout_seconds:g} s: see antiphon status")
            time.sleep(POLL_SECONDS)

    def _wait_for_previous(self) -> None:
        """Wait for a supervisor that was told to stop by something else than a command."""
        deadline = time.monotonic() + DOWN_SECONDS
        while (state := live_state(self.settings)) and state.phase not in ("starting", "up"):
            if time.monotonic() > deadline:
                raise StackError(f"process {state.supervisor_pid} has not ended yet: see {self.output}")
            time.sleep(POLL_SECONDS)

    def _failure(self, supervisor: int) -> str:
        state = read_state(self.settings.home)
        if state and state.supervisor_pid == supervisor:
            if state.failure:
                return state.failure
            if state.phase in ("stopping", "stopped"):
                return "the stack was stopped before it was ready"
        return f"the supervisor ended:\n{process.last_lines(self.output)}"


def _ended(home: Path, supervisor: int) -> bool | None:
    return None if supervisor_of(home) == supervisor else True


def _report(home: Path, supervisor: int, watching: Callable[[State], None]) -> None:
    state = read_state(home)
    if state and state.supervisor_pid == supervisor:
        watching(state)


def _end(supervisor: int, ended: Callable[[], object], waiting: Callable[[], None]) -> None:
    """Stop a supervisor; kill it, and its children with it, if that takes too long.

    `ended` returns None while it runs; `waiting` is called again and again until then.
    """
    with suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS
        while ended() is None:
            if time.monotonic() > deadline:
                os.kill(supervisor, signal.SIGKILL)
                deadline += DOWN_SECONDS
            waiting()
            time.sleep(POLL_SECONDS)
        waiting()
