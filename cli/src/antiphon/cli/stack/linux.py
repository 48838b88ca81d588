"""Linux-only calls, each with a fallback for other POSIX systems.

No other module uses anything that is specific to Linux. macOS uses the fallbacks, untested.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: signal.Signals | None) -> Callable[[], None] | None:
    """Return a `preexec_fn` that sends the child a signal when the thread that started it dies.

    Fallback: None; the next `antiphon up` ends the processes in the state file of a killed supervisor.
    """
    if signum is None or not LINUX:
        return None
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return in_child


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child process and return its exit code.

    Fallback: poll the process.
    """
    if not LINUX:
        while (code := process.poll()) is None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_SECONDS)
        return code
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


def working_directory_argument(directory: Path) -> str:
    """Return a path to `directory` for a process started in it that needs no access to its parents.

    Fallback: the path itself; the process then needs access to all its parents.
    """
    return "/proc/self/cwd" if LINUX else str(directory)
