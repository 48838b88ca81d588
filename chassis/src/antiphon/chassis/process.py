"""Run a process: one event loop, one stop event, exit codes."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import structlog
import uvloop

from antiphon.chassis import telemetry

log = structlog.get_logger(__name__)

EXIT_FAILED = 1

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(main: Main) -> None:
    """Run `main` and exit; SIGTERM and SIGINT set its stop event, a second signal ends the process at once.

    Exits with 0 after a graceful end, 128 + signal after a second signal, and 1 after an uncaught exception,
    which is logged in a line, with a traceback unless it explains itself.
    """
    gc.freeze()  # no collection looks at what was imported
    gc.enable()  # the services disable it while they import
    code = uvloop.run(_supervised(main))
    telemetry.flush()
    sys.exit(code)


def refuse_arguments(module: str) -> None:
    """Exit with 2 if a service that has only settings was given arguments, with 0 for `--help`."""
    if sys.argv[1:]:
        from argparse import ArgumentParser

        about = "Run the service until SIGTERM. Settings: the environment, docs/reference/settings.md"
        ArgumentParser(prog=f"python -m {module}", description=about).parse_args()


async def _supervised(main: Main) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, stop)
    try:
        await main(stop)
    except Exception as error:  # noqa: BLE001 - logged, and the process ends
        for cause in causes(error):
            _log_failure(cause)
        return EXIT_FAILED
    return 0


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, of groups too; an error that is no group is its own cause."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from causes(each)
    else:
        yield error


def _log_failure(error: BaseException) -> None:
    log.error("process.failed", error=_in_a_line(error), exc_info=None if _explains(error) else error)


def _explains(error: BaseException) -> bool:
    # Our own errors say what is wrong and what to do, those of the system name it; any other is a bug.
    return isinstance(error, OSError) or type(error).__module__.startswith("antiphon.")


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _on_signal(number: signal.Signals, stop: asyncio.Event) -> None:
    forced = stop.is_set()
    stop.set()
    with suppress(OSError):  # the reader of the logs may be gone, and the process must end all the same
        log.warning("process.forced" if forced else "process.stopping", signal=number.name)
        sys.stdout.flush()
        sys.stderr.flush()
    if forced:
        os._exit(128 + number)
