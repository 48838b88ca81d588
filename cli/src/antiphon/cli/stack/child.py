import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antiphon.cli.errors import StackError

PR_SET_PDEATHSIG = 1
INSIST_SECONDS = 0.3  # between a signal and the one that repeats it
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Command:
    """How a server's process is started, and how it is asked to stop."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    user: int | None = None  # the user id to run as; None = the one who asks
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_seconds: float = 10.0  # how long it may take to stop before it is killed
    # what the kernel sends when the starting thread dies, however it dies; None = it lives on
    orphan_signal: signal.Signals | None = signal.SIGTERM


def spawn(command: Command, output: Path) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, its output appended to a file.

    With an orphan signal the child dies with the thread that calls this, not only with the process.
    """
    with output.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            cwd=command.directory,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(command.orphan_signal),  # noqa: PLW1509 - prctl acts on the caller
            user=command.user,
            group=command.user,
            extra_groups=None if command.user is None else [],
        )


def _die_with_parent(signum: signal.Signals | None) -> Callable[[], None] | None:
    if signum is None:
        return None
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return in_child


def stop(
    process: subprocess.Popen[bytes], signals: Sequence[signal.Signals], *, patience_seconds: float
) -> bool:
    """Ask the process to stop, kill its session when it does not, and return whether it went by itself."""
    graceful = process.poll() is not None
    for number, signum in enumerate(signals, start=1):
        if graceful:
            break
        process.send_signal(signum)
        graceful = _wait(process, patience_seconds if number == len(signals) else INSIST_SECONDS)
    kill(process)
    return graceful


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and what is left of its session, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def wait_until_ready(
    name: str,
    process: subprocess.Popen[bytes],
    ready: Callable[[], bool],
    output: Path,
    *,
    timeout_seconds: float,
) -> None:
    """Wait for the probe to succeed; raise StackError with the log's last lines when it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if process.poll() is not None:
            raise StackError(f"{name} ended with code {process.returncode}:\n{last_lines(output)}")
        if time.monotonic() > deadline:
            kill(process)
            raise StackError(f"{name} was not ready after {timeout_seconds:g} s:\n{last_lines(output)}")
        time.sleep(0.02)


def last_lines(path: Path, count: int = 12) -> str:
    """Return the end of a log file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
