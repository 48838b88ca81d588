import os
from pathlib import Path
from typing import Literal

import msgspec

from antiphon.cli.stack.private import write_private
from antiphon.cli.supervisor.addresses import Addresses

Phase = Literal["starting", "up", "stopping", "stopped", "failed"]
Progress = Literal["waiting", "running", "done", "failed"]


class ServiceState(msgspec.Struct):
    """What the supervisor knows of one service."""

    name: str
    pid: int | None = None
    started: float | None = None  # seconds since the epoch, by the kernel's clock; with the pid, who it is
    ready: bool = False
    detail: str = "not running"
    restarts: int = 0


class Step(msgspec.Struct):
    """One step of the way up."""

    name: str
    progress: Progress = "waiting"
    detail: str = ""
    seconds: float = 0.0


class State(msgspec.Struct):
    """The state file: written by the supervisor alone, read by every command."""

    supervisor_pid: int
    supervisor_started: float
    addresses: Addresses
    phase: Phase = "starting"
    failure: str | None = None
    steps: list[Step] = []
    services: list[ServiceState] = []


def state_file(home: Path) -> Path:
    """Return where a stack keeps its state."""
    return home / "state.json"


def read_state(home: Path) -> State | None:
    """Return the last state that a supervisor wrote; None when there is none that can be read."""
    try:
        return msgspec.json.decode(state_file(home).read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        # a file of another version says nothing to us
        return None


def write_state(home: Path, state: State) -> None:
    """Replace the state file in one step."""
    write_private(state_file(home), msgspec.json.format(msgspec.json.encode(state)).decode() + os.linesep)
