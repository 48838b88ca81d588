"""One embedded stack for all journeys: the real servers and services, on free ports."""

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import httpx
import pytest
from tests.doubles.otlp_receiver import OtlpReceiver
from tests.fixtures.stack_settings import isolated_settings
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.embedded import EmbeddedStack

RECOVERY_SECONDS = 60.0
CLOSING_SECONDS = 60.0

Outage = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def traces() -> Iterator[OtlpReceiver]:
    """The receiver of the traces of all journeys."""
    with OtlpReceiver().running() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, traces: OtlpReceiver) -> Iterator[EmbeddedStack]:
    """A running stack, traced; a journey that stops a server waits until the stack is ready again.

    At the end, no service has used a subject of NATS that its user may not.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.url)
        with EmbeddedStack(isolated_settings(tmp_path_factory.mktemp("stack"))) as running:
            yield running
            log = (running.settings.home / "logs" / "nats.log").read_text()
    assert not [line for line in log.splitlines() if " Violation - " in line]


@pytest.fixture
async def api(stack: EmbeddedStack) -> AsyncIterator[SessionApi]:
    """The command line's client of session-api."""
    where = stack.status().addresses
    assert where.api_key
    async with SessionApi(where.api_url, where.api_key) as client:
        yield client


@pytest.fixture
async def http(stack: EmbeddedStack) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of session-api."""
    where = stack.status().addresses
    headers = {"Authorization": f"Bearer {where.api_key}"}
    async with httpx.AsyncClient(base_url=where.api_url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def outage(stack: EmbeddedStack) -> Outage:
    """A context manager that kills a server and occupies its port, so that it cannot be restarted.

    At its end, the stack is ready again, unless the test has more to do for that.
    """
    ports = {"nats": stack.settings.nats_port, "postgres": stack.settings.postgres_port}

    @contextmanager
    def stopped(name: str, *, until_ready: bool = True) -> Iterator[None]:
        pid = _pid_of(stack, name)
        os.kill(pid, signal.SIGKILL)
        with _held(ports[name]):
            yield
        if until_ready:
            _wait_until(lambda: stack.status().ready, RECOVERY_SECONDS)

    return stopped


@pytest.fixture
def to_the_end(api: SessionApi) -> Callable[[str], Awaitable[list[Json]]]:
    """A function that follows a session to its last event and returns all events."""

    async def follow(session: str) -> list[Json]:
        async with asyncio.timeout(CLOSING_SECONDS):
            return [event async for event in api.follow(session)]

    return follow


def _pid_of(stack: EmbeddedStack, name: str) -> int:
    pid = next(service.pid for service in stack.status().services if service.name == name)
    assert pid is not None
    return pid


@contextmanager
def _held(port: int) -> Iterator[None]:
    """Occupy a port and reset every connection to it."""
    deadline = time.monotonic() + 10
    holder = socket.socket()
    # two sockets may share an address until one of them listens
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        try:
            holder.bind(("127.0.0.1", port))
            break
        except OSError:
            assert time.monotonic() < deadline, f"port {port} is still in use"
            time.sleep(0.01)
    holder.listen()
    resetting = threading.Thread(target=_reset_connections, args=(holder,), daemon=True)
    resetting.start()
    try:
        yield
    finally:
        holder.shutdown(socket.SHUT_RDWR)
        holder.close()
        resetting.join()


def _reset_connections(holder: socket.socket) -> None:
    with suppress(OSError):  # the outage is over
        while True:
            connection, _ = holder.accept()
            # reset: a connection in TIME_WAIT would occupy the port
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def _wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the stack did not become ready again"
        time.sleep(0.1)
