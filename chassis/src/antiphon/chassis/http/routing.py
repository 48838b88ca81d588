"""The methods that a path allows, and the base of absolute URLs in responses."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

# what only the machine itself can be called; a proxy that passes such a Host on has the setting to say more
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_host = re.compile(rb"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """Return the methods that a path allows, sorted; none for an unknown path."""
    methods: set[str] = set()
    for route in routes:
        match, _ = route.matches(dict(scope))
        if match is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ("GET",))
    if "GET" in methods:
        methods.add("HEAD")
    return sorted({*methods, "OPTIONS"}) if methods else []


def public_origin(scope: Scope, public_url: str | None) -> str:
    """Return the start of this service's URLs, or "" so that they are paths.

    That is the public URL if it is set, else what the client called, if that is loopback: a `Host` may be
    forged, and the URL may be handed on to somebody else.
    """
    if public_url is not None:
        return public_url
    given = dict(scope["headers"]).get(b"host", b"")
    if not _host(given):
        return ""
    host = given.decode("ascii")
    try:
        called = urlsplit(f"//{host}").hostname
    except ValueError:
        return ""
    return f"{scope['scheme']}://{host}" if called in LOOPBACK else ""
