"""The background process that runs one stack, started by `antiphon up`."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.home import claim, take_lock
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit_build import find_livekit
from antiphon.cli.supervisor.plan import Plan
from antiphon.cli.supervisor.setup import credentials_of
from antiphon.cli.supervisor.supervisor import Supervisor

EXIT_FAILED = 1
EXIT_LOCKED = 3
LOCK_SECONDS = 2.0  # a command that tests the lock holds it briefly


def main() -> int:
    """Run the stack of the environment's settings until SIGTERM; return the exit code."""
    return run(load(StackSettings), default_plan)


def default_plan(settings: StackSettings) -> Plan:
    """Return the plan of the whole stack."""
    program = None if settings.livekit_url else find_livekit(settings.cache, lambda _: None)
    return Plan(settings, credentials_of(settings), program)


def run(settings: StackSettings, plan_of: Callable[[StackSettings], Plan]) -> int:
    """Run a stack until SIGTERM; return the exit code."""
    claim(settings.home)
    lock = _lock(settings.home)
    if lock is None:
        print(f"another supervisor runs on {settings.home}", file=sys.stderr)
        return EXIT_LOCKED
    with lock:
        try:
            return asyncio.run(_run(Supervisor(settings, plan_of(settings))))
        except (StackError, OSError) as error:
            print(error, file=sys.stderr)
            return EXIT_FAILED


async def _run(supervisor: Supervisor) -> int:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    if supervisor.ended_orphans:
        print(f"ended processes of an earlier supervisor: {', '.join(supervisor.ended_orphans)}")
    try:
        await supervisor.run(stop)
    except (StackError, OSError) as error:
        supervisor.state.set_phase("failed", str(error))
        raise
    return 0


def _lock(home: Path) -> IO[str] | None:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := take_lock(home)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return lock


if __name__ == "__main__":
    sys.exit(main())
