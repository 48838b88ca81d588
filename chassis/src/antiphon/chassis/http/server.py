"""Serve an ASGI app over HTTP/1.1, with limits, until a stop event."""

import asyncio
import resource
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from antiphon.chassis.http.limits import ServerLimits
from antiphon.chassis.http.load import ServerLoad
from antiphon.chassis.http.metrics import connections
from antiphon.chassis.http.protocol import LimitedProtocol

GRACE_SECONDS = 5.0  # for open requests after the stop event
OTHER_FILES = 128  # descriptors that are not connections of this server
BACKLOG = 1024  # connections that may be accepted at once, before others are closed for them

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `process.run`."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Install no signal handlers."""
        return nullcontext()


async def serve_http(
    app: ASGIApp,
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    lifespan: bool = True,
    limits: ServerLimits | None = None,
    draining: asyncio.Event | None = None,
    grace_seconds: float = GRACE_SECONDS,
    counted: bool = False,
) -> None:
    """Serve an ASGI app until stopped; open requests get `grace_seconds` to end.

    Once `draining` is set each response closes its connection, so that clients connect again, to another
    replica. Without `lifespan` the app gets no lifespan events: it has nothing to start or to end.

    The metrics count the connections of a server that is `counted`: those of clients.

    Raises OSError when the port is taken, RuntimeError when the app does not start.
    """
    load = ServerLoad(_with_descriptors(limits or ServerLimits()))
    protocol: Any = partial(LimitedProtocol, load)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="auto" if lifespan else "off",
        timeout_keep_alive=load.limits.keep_alive_seconds,  # type: ignore[arg-type] # call_later takes it
        timeout_graceful_shutdown=grace_seconds,  # type: ignore[arg-type] # wait_for takes it
        backlog=BACKLOG,
    )
    server = _Server(config)
    with listening_socket(host, port) as listening:
        unwatch = connections.watch(lambda: len(server.server_state.connections)) if counted else None
        stopping = asyncio.gather(_stop_with(server, stop), _drain_with(server, load, draining or stop))
        try:
            await server.serve(sockets=[listening])
        except SystemExit as error:  # uvicorn exits when the app's lifespan fails
            raise RuntimeError("the HTTP application did not start") from error
        finally:
            if unwatch is not None:
                unwatch()
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)


async def _drain_with(server: uvicorn.Server, load: ServerLoad, draining: asyncio.Event) -> None:
    await draining.wait()
    load.draining = True
    for connection in server.server_state.connections:
        connection.close_after_response()  # type: ignore[union-attr] # each is a LimitedProtocol


async def _stop_with(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def _with_descriptors(limits: ServerLimits) -> ServerLimits:
    """Let the process open a file for each connection; return smaller limits if it may not."""
    needed = limits.connections + limits.reserved + OTHER_FILES
    wanted = needed + BACKLOG
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return limits
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return limits
    connections = max(allowed - limits.reserved - OTHER_FILES, 1)
    log.warning("http.few_descriptors", allowed=allowed, needed=needed, connections=connections)
    return replace(limits, connections=connections)


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


def check_address(host: str, port: int) -> None:
    """Fail at the start of a service, before it connects to anything, if it cannot listen there later.

    Raises OSError naming address and port.
    """
    listening_socket(host, port).close()
