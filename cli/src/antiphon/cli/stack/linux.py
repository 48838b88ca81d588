"""Everything that only Linux offers, each with its fallback: the one place to look at for another system.

The rest of the code base needs POSIX. macOS takes the fallbacks; it is untested.
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
    """Return a `preexec_fn` that makes a child receive a signal when the thread that starts it dies.

    Elsewhere there is none: the next `antiphon up` ends what a killed supervisor left, by the state file.
    """
    if signum is None or not LINUX:
        return None
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return in_child


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child process to end and return its exit code; elsewhere it is polled."""
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
    """Return how a process started in `directory` can name it without access to the folders above.

    Elsewhere it is the path, so that another user needs access to all of it.
    """
    return "/proc/self/cwd" if LINUX else str(directory)
