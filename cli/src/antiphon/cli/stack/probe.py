"""Readiness probes: each makes one request, may block, and returns why the server is not ready."""

import json
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from textwrap import shorten
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 5.0
NO_RESPONSE = "does not respond"
LONGEST_BODY = 65_536
REASON_CHARACTERS = 200  # of one check: a table shows it; /health/ready and the log have all of it

# returns None if the server is ready, else the reason
Probe = Callable[[], str | None]


class NoResponse(Exception):
    """The server cannot be reached, or its response is not HTTP."""


class HttpClient:
    """A client of one server that keeps its connection; for one thread at a time.

    A new client for each probe, with a TLS context each, took a tenth of a core.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        self._path = parts.path.rstrip("/")

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Make a request; return the status and the body.

        Raises NoResponse.
        """
        try:
            if self._connection.sock is not None:
                try:
                    return self._exchange(method, path, body, headers or {})
                except (HTTPException, OSError):
                    self._connection.close()  # the server has closed it meanwhile
            return self._exchange(method, path, body, headers or {})
        except (HTTPException, OSError) as error:
            self._connection.close()
            raise NoResponse(str(error)) from error

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        self._connection.request(method, self._path + path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        content = response.read(LONGEST_BODY)
        if not response.isclosed():  # the rest is not read
            self._connection.close()
        return response.status, content


def responds(ready: Callable[[], bool]) -> Probe:
    """Return a probe from a function that returns whether a server is ready."""
    return lambda: None if ready() else NO_RESPONSE


def healthy(url: str) -> Probe:
    """Return the probe of a service's health, whose reason is the failing checks."""
    client = HttpClient(url)

    def probe() -> str | None:
        try:
            status, content = client.request("GET", "/health/ready")
        except NoResponse:
            return NO_RESPONSE
        return None if 200 <= status < 300 else _reason(status, content)

    return probe


def _reason(status: int, content: bytes) -> str:
    try:
        checks = json.loads(content)["checks"].items()
        failing = (f"{name}: {check['detail']}" for name, check in checks if not check["ok"])
        return "; ".join(shorten(each, REASON_CHARACTERS, placeholder=" …") for each in failing)
    except (ValueError, KeyError, TypeError, AttributeError):  # another server's body
        return f"HTTP {status}"
