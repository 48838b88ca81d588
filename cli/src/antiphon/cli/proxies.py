"""The environment's proxies, which must not get between the parts of a stack on this machine."""

from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

from antiphon.client.proxies import is_loopback

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_PROXY = ("NO_PROXY", "no_proxy")  # programs read one or the other
OF_WEB_SOCKETS = ("HTTP_PROXY", "http_proxy")


def reaching_loopback(environment: Mapping[str, str], livekit_url: str) -> dict[str, str]:
    """Return an environment whose programs reach this machine without a proxy, and all else as before.

    If LiveKit is on this machine, without those variables with which its SDK ignores NO_PROXY.
    """
    named = [part.strip() for name in NO_PROXY for part in environment.get(name, "").split(",")]
    hosts = ",".join(dict.fromkeys([*filter(None, named), *LOOPBACK]))
    changed = {**environment, **dict.fromkeys(NO_PROXY, "*" if "*" in named else hosts)}
    leave_proxy(changed, livekit_url)
    return changed


def leave_proxy(environment: MutableMapping[str, str], livekit_url: str) -> None:
    """Hide the proxy from LiveKit's SDK if LiveKit is on this machine, without TLS.

    HTTP_PROXY is removed; HTTPS_PROXY is left in lower case, where the SDK does not look and others do.
    """
    parts = urlsplit(livekit_url)
    if parts.scheme in ("ws", "http") and is_loopback(parts.hostname or ""):
        for name in OF_WEB_SOCKETS:
            environment.pop(name, None)
        if "HTTPS_PROXY" in environment:
            environment.setdefault("https_proxy", environment.pop("HTTPS_PROXY"))
