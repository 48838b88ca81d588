"""The limits of an HTTP server, and the problems of what is over them."""

from dataclasses import dataclass

from antiphon.chassis.http.problem import Problem

KIB = 1024


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
    connections_per_address: int = 0  # no limit: behind a proxy all clients have one address
    reserved: int = 32  # more connections, for health checks
    pipelined: int = 16  # requests that wait for the response before
    all_bodies_bytes: int = 64 * KIB * KIB  # of all requests that are under way
    discarded_bytes: int = KIB * KIB  # of a body that comes after its response


def too_many_connections(limit: int) -> Problem:
    """Return the problem for a request on a connection over the limit."""
    return Problem(
        503,
        "too-many-connections",
        f"The server has its maximum of {limit} connections; try again.",
        retry_after_seconds=2,
        headers={"Connection": "close"},
    )


def server_busy() -> Problem:
    """Return the problem for a request whose body is one too many."""
    return Problem(503, "server-busy", "Too many large requests at once; try again.", retry_after_seconds=1)
