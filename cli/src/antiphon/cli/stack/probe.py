"""Readiness probes: each makes one request, may block, and returns why the server is not ready."""

from collections.abc import Callable
from functools import cache

import httpx

TIMEOUT_SECONDS = 5.0
NO_RESPONSE = "does not respond"

# returns None if the server is ready, else the reason
Probe = Callable[[], str | None]


@cache
def http_client() -> httpx.Client:
    """Return the shared client of all probes: creating one, with its TLS context, takes 50 ms of CPU."""
    return httpx.Client(timeout=TIMEOUT_SECONDS, limits=httpx.Limits(max_keepalive_connections=0))


def responds(ready: Callable[[], bool]) -> Probe:
    """Return a probe from a function that returns whether a server is ready."""
    return lambda: None if ready() else NO_RESPONSE


def healthy(url: str) -> Probe:
    """Return the probe of a health endpoint, whose reason is the failing checks."""

    def probe() -> str | None:
        try:
            response = http_client().get(url)
        except httpx.TransportError:
            return NO_RESPONSE
        return None if response.is_success else _reason(response)

    return probe


def _reason(response: httpx.Response) -> str:
    try:
        checks = response.json()["checks"].items()
        return "; ".join(f"{name}: {check['detail']}" for name, check in checks if not check["ok"])
    except (ValueError, KeyError, TypeError, AttributeError):  # another server's body
        return f"HTTP {response.status_code}"
