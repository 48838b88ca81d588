"""Where the server is, and how httpx is used: what the sync and the async client have in common."""

import os
import re
import ssl
from collections.abc import Mapping
from typing import Any

import httpx
from msgspec import Struct

from antiphon.client.calls import Reply
from antiphon.client.errors import AntiphonError, ConnectionFailed, InvalidClientSettings, Timeout
from antiphon.client.retry import NotSent, Send

URL_VARIABLE = "ANTIPHON_API_URL"
KEY_VARIABLE = "ANTIPHON_API_KEY"
CONNECT_SECONDS = 5.0
KEPT_SECONDS = 30.0  # an idle connection is closed before a proxy closes it

_key = re.compile(r"[!-~]+")


class Target(Struct, frozen=True):
    """The address of session-api, and the API key; the key is not in its representation."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"<Target {self.base_url}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self.api_key}", "Accept": "application/json"}


def target(base_url: str | None, api_key: str | None) -> Target:
    """Return the target that the arguments name, else the environment.

    Raises InvalidClientSettings.
    """
    address = base_url or os.environ.get(URL_VARIABLE)
    key = api_key or os.environ.get(KEY_VARIABLE)
    if not address:
        raise InvalidClientSettings(f"pass base_url, or set {URL_VARIABLE}: the address of session-api")
    if not key:
        raise InvalidClientSettings(f"pass api_key, or set {KEY_VARIABLE}")
    if _key.fullmatch(key) is None:
        raise InvalidClientSettings("the API key has a space or a character that is not ASCII")
    return Target(_checked(address), key)


def _checked(address: str) -> str:
    # no message repeats the address: it may hold a password
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise InvalidClientSettings("base_url is not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidClientSettings("base_url must begin with http:// or https:// and name a host")
    if url.userinfo or url.query or url.fragment:
        raise InvalidClientSettings("base_url takes no user, query or fragment: pass the key as api_key")
    return str(url).rstrip("/")


class Connections(Struct, frozen=True, kw_only=True):
    """Limits of a client's connections; streams have their own, so that they cannot use up those of calls."""

    calls: int = 20
    streams: int = 100


def options(where: Target, connections: int, verify: ssl.SSLContext | bool, transport: Any) -> dict[str, Any]:
    """Return the arguments of an httpx client; redirects are not followed, the key must not go elsewhere."""
    return {
        "headers": where.headers,
        "follow_redirects": False,
        "verify": verify,
        "transport": transport,
        "limits": httpx.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEPT_SECONDS,
        ),
    }


def request_of(where: Target, send: Send) -> dict[str, Any]:
    """Return the arguments of httpx's `stream` for one attempt."""
    call, headers = send.call, dict(send.call.headers)
    soon = min(CONNECT_SECONDS, send.seconds)
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return {
        "method": call.method,
        "url": where.base_url + call.path,
        "params": list(call.params) or None,
        "headers": headers,
        "content": call.content,
        "timeout": httpx.Timeout(send.seconds, connect=soon, pool=soon),
    }


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return an answer whose body was read."""
    return Reply(response.status_code, lowered(response.headers), body)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def translated(error: Exception, where: Target) -> AntiphonError:
    """Return the client's error for one of httpx."""
    reason = str(error) or type(error).__name__
    match error:
        case AntiphonError():
            return error
        case httpx.PoolTimeout():
            return Timeout("all connections of this client are in use: close streams, or raise its limits")
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return NotSent(f"session-api at {where.base_url} does not respond: {reason}")
        case httpx.TimeoutException():
            return Timeout(f"session-api at {where.base_url} did not answer in time")
        case _:
            return ConnectionFailed(f"session-api at {where.base_url} does not respond: {reason}")
