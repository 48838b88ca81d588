"""Run a process: one event loop, one stop event, exit codes, an HTTP server."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
GRACE_SECONDS = 5  # for open requests after the stop event

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(main: Main) -> None:
    """Run `main` and exit; SIGTERM and SIGINT set its stop event, a second signal ends the process at once.

    Exits with 0 after a graceful end, 128 + signal after a second signal, and 1 after an uncaught exception,
    which is logged in a line, with a traceback unless it explains itself.
    """
    code = uvloop.run(_supervised(main))
    sys.exit(code)


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


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `run`."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Install no signal handlers."""
        return nullcontext()


async def serve_http(
    app: ASGIApp, host: str, port: int, stop: asyncio.Event, *, lifespan: bool = True
) -> None:
    """Serve an ASGI app until stopped; open requests get GRACE_SECONDS to end.

    Without `lifespan` the app gets no lifespan events: it has nothing to start or to end.

    Raises OSError when the port is taken, RuntimeError when the app does not start.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="auto" if lifespan else "off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    stopping = asyncio.create_task(_stop_with(server, stop), name=f"stop http {port}")
    with listening_socket(host, port) as listening:
        try:
            await server.serve(sockets=[listening])
        except SystemExit as error:  # uvicorn exits when the app's lifespan fails
            raise RuntimeError("the HTTP application did not start") from error
        finally:
            stopping.cancel()


async def _stop_with(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 picks a free one.

    Raises OSError naming address and port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return bound
