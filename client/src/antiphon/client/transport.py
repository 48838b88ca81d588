"""Where the server is, and how httpx is used: what the sync and the async client have in common."""

import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import httpx
from msgspec import Struct

from antiphon.client.calls import Reply
from antiphon.client.errors import (
    AntiphonError,
    ClientClosed,
    ConnectionFailed,
    InvalidArgument,
    InvalidClientSettings,
    Timeout,
    TlsFailed,
)
from antiphon.client.key_file import FILE_VARIABLE, KEY_VARIABLE, key_of
from antiphon.client.proxies import Proxy, proxy_of
from antiphon.client.retry import NotSent, Send

URL_VARIABLE = "ANTIPHON_API_URL"
CONNECT_SECONDS = 5.0
KEPT_SECONDS = 30.0  # an idle connection is closed before a proxy closes it

_key = re.compile(r"[!-~]+")


class Target(Struct, frozen=True):
    """The address of session-api, and the API key; the key is not in its representation."""

    base_url: str
    api_key: str
    proxy: Proxy | None = None

    def __repr__(self) -> str:
        return f"<Target {self.base_url}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Authorization": f"Bearer {self.api_key}", "Accept": "application/json"}

    @property
    def via(self) -> str:
        """The proxy in use as errors name it, or nothing."""
        return f"(through the proxy {self.proxy!r})" if self.proxy else ""

    @property
    def name(self) -> str:
        """The server as errors name it."""
        return f"session-api at {self.base_url} {self.via}".rstrip()


def target(base_url: str | None, api_key: str | None) -> Target:
    """Return the target that the arguments name, else the environment.

    Raises InvalidClientSettings.
    """
    address = base_url or os.environ.get(URL_VARIABLE)
    key = api_key or key_of()
    if not address:
        raise InvalidClientSettings(f"pass base_url, or set {URL_VARIABLE}: the address of session-api")
    if not key:
        raise InvalidClientSettings(f"pass api_key, or set {KEY_VARIABLE} or {FILE_VARIABLE}")
    if _key.fullmatch(key) is None:
        raise InvalidClientSettings("the API key has a space or a character that is not ASCII")
    checked = _checked(address)
    return Target(checked, key, proxy_of(httpx.URL(checked)))


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


def tls_context(where: Target) -> ssl.SSLContext | Literal[False]:
    """Return a TLS context; False where no connection has TLS, as the certificates take 30 ms to load."""
    return (where.proxy is not None or where.base_url.startswith("https:")) and httpx.create_ssl_context()


def options(where: Target, connections: int, verify: ssl.SSLContext | bool, transport: Any) -> dict[str, Any]:
    """Return the arguments of an httpx client; redirects are not followed, the key must not go elsewhere.

    The proxy is chosen by us, so that errors can name it.
    """
    return {
        "headers": where.headers,
        "follow_redirects": False,
        "verify": verify,
        "transport": transport,
        "trust_env": False,
        "proxy": where.proxy.url if where.proxy and transport is None else None,
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
    content = call.content
    if content is not None:
        headers["Content-Type"] = call.media_type
    return {
        "method": call.method,
        "url": where.base_url + call.path,
        "params": list(call.params) or None,
        "headers": headers,
        "content": content,
        "timeout": httpx.Timeout(send.seconds, connect=soon, pool=soon),
    }


def reply_of(response: httpx.Response, body: bytes, where: Target) -> Reply:
    """Return an answer whose body was read."""
    return Reply(response.status_code, lowered(response.headers), body, where.via)


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
        case httpx.ConnectError() if _tls(error):
            return TlsFailed(
                f"no secure connection to {where.name}: {reason}. "
                "Does it have TLS (https://), and is its certificate trusted (ssl_context)?"
            )
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return NotSent(f"{where.name} does not respond: {reason}")
        case httpx.TimeoutException() | TimeoutError():
            return Timeout(f"{where.name} did not answer in time")
        case httpx.LocalProtocolError():
            return InvalidArgument("the request cannot be sent: a header has a character that is not allowed")
        case _:
            return ConnectionFailed(f"{where.name} does not respond: {reason}")


def _tls(error: BaseException) -> bool:
    """Return whether a handshake failed for a reason that stays; a connection that broke in it does not."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def require_open(client: httpx.Client | httpx.AsyncClient) -> None:
    """Raise ClientClosed for a client that was closed."""
    if client.is_closed:
        raise ClientClosed("this client is closed: make another one")
