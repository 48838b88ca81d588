"""The state file, written by the supervisor only and read by every command."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from antiphon.cli.home import write_private
from antiphon.cli.settings import LOOPBACK, StackSettings

ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

Phase = Literal["starting", "up", "stopping", "stopped", "failed"]
Progress = Literal["waiting", "running", "done", "failed"]


class Addresses(msgspec.Struct, frozen=True):
    """The addresses and keys of one stack; None for those that do not exist yet."""

    home: str
    api_url: str
    api_key: str | None
    webhooks_url: str
    livekit_url: str
    livekit_api_key: str | None
    livekit_api_secret: str | None
    nats_url: str
    postgres_dsn: str | None


class ServiceState(msgspec.Struct):
    """The state of one service; without arguments, of one that does not run."""

    name: str
    pid: int | None = None
    started: float | None = None  # seconds since the epoch; with the pid it identifies the process
    ready: bool = False
    detail: str = "not running"
    restarts: int = 0


class Step(msgspec.Struct):
    """One step of starting the stack."""

    name: str
    progress: Progress = "waiting"
    detail: str = ""
    seconds: float = 0.0


class State(msgspec.Struct):
    """The content of the state file."""

    supervisor_pid: int
    addresses: Addresses
    phase: Phase = "starting"
    failure: str | None = None
    steps: list[Step] = []
    services: list[ServiceState] = []


def state_path(home: Path) -> Path:
    """Return the path of a stack's state file."""
    return home / "state.json"


def read_state(home: Path) -> State | None:
    """Return the last state written by a supervisor; None if the file is missing or invalid."""
    try:
        return msgspec.json.decode(state_path(home).read_bytes(), type=State)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_state(home: Path, state: State) -> None:
    """Replace the state file atomically, or in place when the disk has no space for another one."""
    path, text = state_path(home), msgspec.json.format(msgspec.json.encode(state)).decode() + os.linesep
    try:
        write_private(path, text)
    except OSError as error:
        if error.errno != errno.ENOSPC or not path.exists():
            raise
        with path.open("r+") as file:  # its block stays allocated
            file.write(text)
            file.truncate()


class StateFile:
    """The state of a running supervisor, written to its file at each change."""

    def __init__(self, home: Path, state: State) -> None:
        self._home = home
        self.state = state
        self._write()

    def set_phase(self, phase: Phase, failure: str | None = None) -> None:
        """Set the phase of the whole stack."""
        self.state.phase, self.state.failure = phase, failure
        self._write()

    def set_service(self, service: ServiceState) -> None:
        """Add a service, or replace the one with its name."""
        names = [known.name for known in self.state.services]
        if service.name in names:
            self.state.services[names.index(service.name)] = service
        else:
            self.state.services.append(service)
        self._write()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Record the progress, result and duration of a step."""
        step = next(step for step in self.state.steps if step.name == name)
        began = time.monotonic()
        step.progress = "running"
        self._write()
        try:
            yield step
        except BaseException:
            step.progress = "failed"
            raise
        else:
            step.progress = "done"
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self._write()

    def _write(self) -> None:
        write_state(self._home, self.state)


def addresses_of(settings: StackSettings) -> Addresses:
    """Return the addresses of a stack with these settings."""
    return Addresses(
        home=str(settings.home),
        api_url=f"http://{reachable(settings.api_host)}:{settings.api_port}",
        api_key=None,
        webhooks_url=f"http://{reachable(settings.webhooks_host)}:{settings.webhooks_port}",
        livekit_url=settings.livekit_url or f"ws://{LOOPBACK}:{settings.livekit_port}",
        livekit_api_key=settings.livekit_api_key,
        livekit_api_secret=settings.livekit_api_secret,
        nats_url=f"nats://{LOOPBACK}:{settings.nats_port}",
        postgres_dsn=None,
    )


def reachable(host: str) -> str:
    """Return the address for connecting from this machine to a server that binds `host`."""
    if host in ALL_INTERFACES:
        return LOOPBACK
    return f"[{host}]" if ":" in host else host
