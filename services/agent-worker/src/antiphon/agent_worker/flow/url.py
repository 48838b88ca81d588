"""URLs with variables: a value is escaped, and changes neither the host nor the path around it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders, render

SCHEMES = ("http", "https")
SECRET = "secret."  # noqa: S105 - a name

_BASE = re.compile(r"(\{secret\.\w+\}|[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)(.*)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")  # what URL parsers treat in different ways
_SEPARATORS = re.compile(r"[/\\]")


class InvalidUrl(ValueError):
    """A URL that cannot be used; the message says why and shows no value."""


class UrlTemplate:
    """The URL of a request, like `https://example.com/orders/{order_id}?limit={limit}`.

    Scheme, host and port are fixed; a secret may stand for all three, as in `{secret.CRM_URL}/orders`.
    Raises InvalidUrl.
    """

    def __init__(self, text: str) -> None:
        found = _BASE.fullmatch(text)
        if found is None:
            raise InvalidUrl("must begin with https:// or http://")
        self._base, rest = found.groups()
        path, mark, query = rest.partition("?")
        self._path, self._query = str(path), f"{mark}{query}"
        self.secret_base = self._base.removeprefix("{").removesuffix("}") if self._base[0] == "{" else None
        if self._path and not self._path.startswith("/"):
            raise InvalidUrl("the path must begin with /")
        if self.secret_base is None:
            if "{" in self._base:
                raise InvalidUrl("the scheme, host and port can have no variables, except one secret for all")
            check_base(self._base)
        try:
            names = placeholders(rest)
        except InvalidTemplate as error:
            raise InvalidUrl(str(error)) from error
        if ":spelled}" in rest or "#" in rest or _FORBIDDEN.search(rest):
            raise InvalidUrl("has a character that no URL has here: a space, \\, # or {name:spelled}")
        self.names = frozenset(names)

    @property
    def host(self) -> str | None:
        """The host, if the text has it."""
        return None if self.secret_base is not None else urlsplit(self._base).hostname

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the URL with values. Raises InvalidUrl and KeyError."""
        base = self._base
        if self.secret_base is not None:
            base = str(values[self.secret_base]).rstrip("/")
            check_base(base, may_have_path=True)
        path = render(self._path, _Escaped(values, in_path=True))
        if any(part in (".", "..") for part in path.split("/")):
            raise InvalidUrl("a value makes a part of the path . or ..")
        return base + path + render(self._query, _Escaped(values, in_path=False))


class _Escaped(Mapping[str, str]):
    """The values, escaped when they are read."""

    def __init__(self, values: Mapping[str, Any], *, in_path: bool) -> None:
        self._values = values
        self._in_path = in_path

    def __getitem__(self, name: str) -> str:
        text = as_text(self._values[name])
        if self._in_path:
            if not text:
                raise InvalidUrl(f"{{{name}}} is empty, and the path would be another one")
            # some servers unescape %2F before they look at the path
            if any(part in (".", "..") for part in _SEPARATORS.split(text)):
                raise InvalidUrl(f"{{{name}}} has a part . or .., and the path would be another one")
        return quote(text, safe="", errors="replace")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def as_text(value: Any) -> str:
    """Return a value as it stands in a URL or a header; nothing for None."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_base(base: str, *, may_have_path: bool = False) -> None:
    """Check the scheme, host and port of a URL. Raises InvalidUrl."""
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        raise InvalidUrl("has an invalid host or port") from None
    if parts.scheme not in SCHEMES:
        raise InvalidUrl("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise InvalidUrl("has a user name: write credentials as a header, {secret.NAME}")
    if not parts.hostname or port == 0 or _FORBIDDEN.search(base):
        raise InvalidUrl("has an invalid host or port")
    if parts.query or parts.fragment or "?" in base or "#" in base or (parts.path and not may_have_path):
        raise InvalidUrl("the secret must be a scheme and a host, perhaps with a port and a path")
