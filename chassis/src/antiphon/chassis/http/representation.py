"""A complete JSON response as this client gets it: with an ETag or as 304, and compressed."""

import asyncio
import hashlib
import zlib

RawHeaders = list[tuple[bytes, bytes]]

MIN_GZIP_BYTES = 1024
THREAD_BYTES = 64 * 1024  # a larger body is compressed in a thread: about 1 ms
GZIP_LEVEL = 1  # most of the gain, at a third of the time of the default
_GZIP_WINDOW = 31  # zlib's number for the gzip format
_REPLACED = (b"content-length", b"content-encoding")


def etag_of(body: bytes) -> bytes:
    """Return the weak ETag of a body: it stays the same when the body is compressed."""
    return b'W/"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Tell whether an `If-None-Match` names this ETag."""
    if if_none_match.strip() == b"*":
        return True
    opaque = etag.removeprefix(b"W/")
    return any(entry.strip().removeprefix(b"W/") == opaque for entry in if_none_match.split(b","))


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Tell whether an `Accept-Encoding` allows gzip."""
    quality: dict[bytes, bytes] = {}
    for entry in accept_encoding.lower().split(b","):
        name, _, parameter = entry.partition(b";")
        quality[name.strip()] = parameter.strip().removeprefix(b"q=")
    chosen = quality.get(b"gzip", quality.get(b"*"))
    return chosen is not None and chosen.rstrip(b"0") not in (b"0.", b"0") and chosen != b"0"


async def compressed(headers: RawHeaders, body: bytes) -> tuple[RawHeaders, bytes]:
    """Return headers and body of the response in gzip; a strong ETag, one of other bytes, becomes weak."""
    smaller = await asyncio.to_thread(_gzip, body) if len(body) > THREAD_BYTES else _gzip(body)
    kept = [
        (name, b"W/" + value if name == b"etag" and value.startswith(b'"') else value)
        for name, value in headers
        if name not in _REPLACED
    ]
    added = [(b"content-encoding", b"gzip"), (b"content-length", str(len(smaller)).encode())]
    return [*kept, *added], smaller


def without_body(headers: RawHeaders) -> RawHeaders:
    """Return the headers of a 304 in place of the response with these."""
    return [(name, value) for name, value in headers if name not in (*_REPLACED, b"content-type")]


def _gzip(body: bytes) -> bytes:
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return stream.compress(body) + stream.flush()
