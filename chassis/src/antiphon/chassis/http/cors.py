"""Cross-origin requests of browsers: allowed from the origins that a setting names, else from none."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

ANY = "*"
ALLOWED_HEADERS = (
    "Accept",
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "X-Request-Id",
    "traceparent",
)
EXPOSED_HEADERS = (
    "Antiphon-Sequence",
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Request-Id",
)
MAX_AGE_SECONDS = 600

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Cors:
    """The allowed origins. Keys travel in `Authorization`, so credentials of a browser are never allowed."""

    origins: frozenset[str] = frozenset()

    def headers(self, origin: bytes | None) -> RawHeaders:
        """Return the headers of a response to a request with this `Origin`, None for none."""
        if not self.origins:
            return []
        allowed = self._allowed(origin)
        if allowed is None:
            return [(b"vary", b"Origin")]
        headers = [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode()),
        ]
        return headers if allowed == ANY.encode() else [*headers, (b"vary", b"Origin")]

    def preflight(self, origin: bytes | None, methods: Iterable[str]) -> RawHeaders:
        """Return the headers of a response to a preflight, besides those of `headers`."""
        if self._allowed(origin) is None:
            return []
        return [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", ", ".join(ALLOWED_HEADERS).encode()),
            (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
        ]

    def _allowed(self, origin: bytes | None) -> bytes | None:
        if origin is None:
            return None
        if ANY in self.origins:
            return ANY.encode()
        return origin if origin.decode("latin-1") in self.origins else None


def parse_origins(text: str) -> frozenset[str]:
    """Return the origins of a list with commas.

    Raises ValueError for what is no origin.
    """
    origins = [entry.strip() for entry in text.split(",") if entry.strip()]
    for origin in origins:
        if origin != ANY and not _is_origin(origin):
            raise ValueError(
                f"{origin!r} is not an origin: write https://console.example.com, without a path, or *"
            )
    return frozenset(origins)


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or "*" in host:
        return False
    named = f"[{host}]" if ":" in host else host
    return text == f"{parts.scheme}://{named}" + (f":{port}" if port is not None else "")
