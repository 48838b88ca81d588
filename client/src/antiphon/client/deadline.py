"""A time limit for a whole attempt of the client that blocks; the time limits of httpx are for each read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpx

LEAST_SECONDS = 0.001

_until: ContextVar[float | None] = ContextVar("antiphon_client_until", default=None)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let every connect, read and write of this thread end within so many seconds from now, all together.

    It holds for the clients that are `bounded`, whose time-outs are raised then.
    """
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def _shorter(timeout: float | None) -> float | None:
    until = _until.get()
    if until is None:
        return timeout
    left = max(until - time.monotonic(), LEAST_SECONDS)
    return left if timeout is None else min(timeout, left)


class _Stream:
    """A connection of httpcore whose reads and writes keep to the limit."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._stream.read(max_bytes, _shorter(timeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _shorter(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: Any = None, timeout: float | None = None) -> Any:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _shorter(timeout)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Network:
    """A network backend of httpcore whose connections keep to the limit."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *rest: Any, **named: Any
    ) -> Any:
        return _Stream(self._network.connect_tcp(host, port, _shorter(timeout), *rest, **named))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def bounded(client: httpx.Client) -> httpx.Client:
    """Let a client keep to the limit of `within`; a transport that a user passed keeps to its own."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            # httpx has no option for it; a test notices when this name changes
            pool: Any = transport._pool
            pool._network_backend = _Network(pool._network_backend)
    return client
