"""The background process that holds one stack; `antiphon up` starts it."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.home import claim
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.build import find_livekit
from antiphon.cli.supervisor.credentials import credentials_of
from antiphon.cli.supervisor.lock import take_lock
from antiphon.cli.supervisor.plan import Plan
from antiphon.cli.supervisor.run import Supervisor

EXIT_FAILED = 1
EXIT_HELD = 3
LOCK_SECONDS = 2.0  # a command that looks whether the lock is held holds it for a moment


def main() -> int:
    """Hold the stack that the environment names, until SIGTERM."""
    return hold(load(StackSettings), own_plan)


def own_plan(settings: StackSettings) -> Plan:
    """Return the plan of the whole stack."""
    program = None if settings.livekit_url else find_livekit(settings.cache, lambda _: None)
    return Plan(settings, credentials_of(settings), program)


def hold(settings: StackSettings, plan_of: Callable[[StackSettings], Plan]) -> int:
    """Hold a stack until SIGTERM, and return the exit code."""
    claim(settings.home)
    lock = _lock(settings.home)
    if lock is None:
        print(f"another supervisor holds {settings.home}", file=sys.stderr)
        return EXIT_HELD
    with lock:
        try:
            return asyncio.run(_hold(Supervisor(settings, plan_of(settings))))
        except StackError as error:
            print(error, file=sys.stderr)
            return EXIT_FAILED


async def _hold(supervisor: Supervisor) -> int:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    if supervisor.healed:
        print(f"ended what an earlier supervisor left running: {', '.join(supervisor.healed)}")
    try:
        await supervisor.hold(stop)
    except StackError as error:
        supervisor.board.enter("failed", str(error))
        raise
    return 0


def _lock(home: Path) -> IO[str] | None:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := take_lock(home)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return lock


if __name__ == "__main__":
    sys.exit(main())
