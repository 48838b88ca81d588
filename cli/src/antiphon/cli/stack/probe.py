"""Readiness probes: each makes one real request, may block, and returns why the server is not ready."""

from collections.abc import Callable
from functools import cache

import httpx

TIMEOUT_SECONDS = 5.0
NO_ANSWER = "does not answer"

# returns None when ready, else the reason
Probe = Callable[[], str | None]


@cache
def http_client() -> httpx.Client:
    """Return the client of all probes: making one, with its TLS context, costs 50 ms of CPU."""
    return httpx.Client(timeout=TIMEOUT_SECONDS, limits=httpx.Limits(max_keepalive_connections=0))


def answering(ready: Callable[[], bool]) -> Probe:
    """Return the probe of a server that is ready or does not answer."""
    return lambda: None if ready() else NO_ANSWER


def healthy(url: str) -> Probe:
    """Return the probe of a health endpoint; a body of ours says which checks fail."""

    def probe() -> str | None:
        try:
            answer = http_client().get(url)
        except httpx.TransportError:
            return NO_ANSWER
        return None if answer.is_success else _reason(answer)

    return probe


def _reason(answer: httpx.Response) -> str:
    try:
        checks = answer.json()["checks"].items()
        return "; ".join(f"{name}: {check['detail']}" for name, check in checks if not check["ok"])
    except (ValueError, KeyError, TypeError, AttributeError):  # another server's body
        return f"HTTP {answer.status_code}"
