"""The limits of an HTTP server, and what its connections hold together."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from antiphon.chassis.http.problem import Problem

KIB = 1024
LOG_SECONDS = 10.0  # between two lines about refused connections

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server accepts; times in seconds."""

    head_bytes: int = 64 * KIB  # request line and headers, or trailers
    head_fields: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    keep_alive_seconds: float = 5.0  # of an idle connection
    stalled_seconds: float = 60.0  # of a client that takes nothing of its response
    connections: int = 2000
    reserved: int = 32  # more connections, for health checks
    pipelined: int = 16  # requests that wait for the response before
    all_bodies_bytes: int = 64 * KIB * KIB  # of all requests that are under way
    discarded_bytes: int = KIB * KIB  # of a body that comes after its response


class ServerLoad:
    """The connections of a server share one."""

    def __init__(self, limits: ServerLimits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.body_bytes = 0
        self._now = now
        self._refused = 0
        self._next_line = float("-inf")

    def hold(self, size: int) -> None:
        """Add the bytes of a body.

        Raises Problem 503 when all bodies together are too large.
        """
        self.body_bytes += size
        if self.body_bytes > self.limits.all_bodies_bytes:
            raise Problem(
                503, "server-busy", "Too many large requests at once; try again.", retry_after_seconds=1
            )

    def release(self, size: int) -> None:
        """Forget the bytes of bodies."""
        self.body_bytes -= size

    def refused_connection(self) -> None:
        """Count and log a connection over the limit, at most one line in LOG_SECONDS."""
        self._refused += 1
        now = self._now()
        if now < self._next_line:
            return
        self._next_line = now + LOG_SECONDS
        log.warning("http.too_many_connections", limit=self.limits.connections, refused=self._refused)
        self._refused = 0


def too_many_connections(limit: int) -> Problem:
    """Return the problem for a request on a connection over the limit."""
    return Problem(
        503,
        "too-many-connections",
        f"The server has its maximum of {limit} connections; try again.",
        retry_after_seconds=2,
        headers={"Connection": "close"},
    )
