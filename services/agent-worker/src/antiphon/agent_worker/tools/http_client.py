"""HTTP clients of tools: they connect to allowed addresses only, and take no proxy from the environment."""

import asyncio
import logging
import ssl
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import httpcore2
import httpx2

from antiphon.agent_worker.tools.address import Resolve, is_public, resolve

CONNECT_SECONDS = 5.0
CONNECTIONS = 16  # of a client at the same time

# they log URLs and headers, which may have secrets and what a caller said
for _logger in ("httpx2", "httpcore2"):
    logging.getLogger(_logger).setLevel(logging.WARNING)


class AddressRefused(httpcore2.ConnectError):
    """A host has no address that the tool may connect to."""


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a host once, and connects to the addresses that it has checked.

    A name that resolves to another address a moment later has no effect.
    """

    def __init__(self, resolve: Resolve, *, private: bool) -> None:
        self._resolve = resolve
        self._private = private
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first allowed address of a host that answers."""
        try:
            async with asyncio.timeout(timeout):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the name of the host was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("the name of the host cannot be resolved") from error
        allowed = [address for address in found if self._private or is_public(address)]
        if not allowed:
            raise AddressRefused("the host has no public address; `private: true` allows private ones")
        for address in allowed[:-1]:
            try:
                return await self._connect(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._connect(allowed[-1], port, timeout, local_address, socket_options)

    async def _connect(self, address: str, port: int, *rest: Any) -> httpcore2.AsyncNetworkStream:
        return await self._network.connect_tcp(address, port, *rest)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        """Refuse: tools connect by TCP."""
        raise AddressRefused("tools cannot connect to Unix sockets")

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts to connect."""
        await asyncio.sleep(seconds)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


async def open_client(
    *,
    private: bool,
    resolve: Resolve = resolve,
    headers: Mapping[str, str] | None = None,
    read_seconds: float | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx2.AsyncClient:
    """Return a client that follows no redirects. `read_seconds` is the longest silence of a server."""
    context = tls if tls is not None else await asyncio.to_thread(_tls)  # it reads the certificates
    transport = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
    transport._pool = httpcore2.AsyncConnectionPool(  # it has no argument for a backend
        ssl_context=context,
        max_connections=CONNECTIONS,
        max_keepalive_connections=CONNECTIONS,
        keepalive_expiry=15.0,
        network_backend=_CheckedBackend(resolve, private=private),
    )
    return httpx2.AsyncClient(
        transport=transport,
        headers=dict(headers or {}),
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=read_seconds),
        follow_redirects=False,
        trust_env=False,
    )


def was_refused(error: BaseException) -> bool:
    """Return whether an error of a client is that of a refused address."""
    return isinstance(error, AddressRefused) or isinstance(error.__cause__, AddressRefused)
