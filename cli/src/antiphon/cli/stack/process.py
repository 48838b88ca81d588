import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from antiphon.cli.errors import StackError
from antiphon.cli.stack.linux import die_with_parent

REPEAT_SECONDS = 0.3  # between a signal and the next


@dataclass(frozen=True, slots=True)
class Command:
    """A command line with its environment, user and stop signals."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    user: int | None = None  # the user id to run as; None = the current one
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_seconds: float = 10.0  # before it is killed
    # sent by the kernel when the starting thread dies (Linux); None = the process survives it
    orphan_signal: signal.Signals | None = signal.SIGTERM


def spawn(command: Command, output: Path) -> subprocess.Popen[bytes]:
    """Start the command in its own session and append its output to a file.

    The orphan signal is sent when the calling thread ends, not only when the process ends.
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
            preexec_fn=die_with_parent(command.orphan_signal),  # noqa: PLW1509 - prctl acts on the caller
            user=command.user,
            group=command.user,
            extra_groups=None if command.user is None else [],
        )


def stop(
    process: subprocess.Popen[bytes], signals: Sequence[signal.Signals], *, timeout_seconds: float
) -> bool:
    """Send the signals in order, then kill the session; return whether the process ended before the kill."""
    graceful = process.poll() is not None
    for number, signum in enumerate(signals, start=1):
        if graceful:
            break
        process.send_signal(signum)
        graceful = _wait(process, timeout_seconds if number == len(signals) else REPEAT_SECONDS)
    kill(process)
    return graceful


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the rest of its session."""
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
    """Wait until `ready` returns true.

    Raises StackError with the end of the log if the process ends or the timeout expires.
    """
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
