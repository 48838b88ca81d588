"""Pages of lists: `{"<noun>": […], "next": <cursor or null>}`, and the opaque cursors between them.

A cursor is a version, a checksum and a key, in base64: the key names its list and the last item of the page.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Annotated, TypeVar

import msgspec
import orjson
from fastapi import Query
from starlette.responses import Response

from antiphon.contracts.ids import is_session_id
from antiphon.session_api.instants import FIRST_YEAR, LAST_YEAR
from antiphon.session_api.problems import Problem, invalid

VERSION = b"\x01"
CHECKSUM_BYTES = 4
PAGE_BYTES = 4 << 20  # of the items in one page; one that is larger is a page of its own
MAX_CURSOR_LENGTH = 512
LARGEST_SEQUENCE = 2**31 - 1  # Postgres: integer

PageCursor = Annotated[
    str | None,
    Query(min_length=1, max_length=MAX_CURSOR_LENGTH, description="`next` of the page before, as it is"),
]
Limit = Annotated[int, Query(ge=1, le=200, description="the most items of a page")]


class PageKey(msgspec.Struct, frozen=True):
    """The sort key of the last session on a page; newest sessions come first."""

    created_at: datetime
    session_id: str


T = TypeVar("T")

_page_key = msgspec.json.Decoder(tuple[str, datetime, str])
_number = msgspec.json.Decoder(tuple[str, int])
_numbers = msgspec.json.Decoder(tuple[str, int, int])
_text = msgspec.json.Decoder(tuple[str, str])


def page(name: str, items: Iterable[bytes | str], following: str | None) -> Response:
    """Return a page of items encoded as JSON; `following` is its `next`, None on the last page."""
    joined = b",".join(item.encode() if isinstance(item, str) else item for item in items)
    body = b'{"%s":[%s],"next":%s}' % (name.encode(), joined, orjson.dumps(following))
    return Response(body, media_type="application/json")


def fitting(items: Iterable[bytes], limit: int) -> list[bytes]:
    """Return the first items of a page: at most `limit`, and about PAGE_BYTES, but always one."""
    shown: list[bytes] = []
    size = 0
    for item in islice(items, limit):
        shown.append(item)
        size += len(item)
        if size >= PAGE_BYTES:
            break
    return shown


def encode_page_cursor(key: PageKey) -> str:
    """Return the opaque cursor of the page of sessions after this key."""
    return _encode(("sessions", key.created_at, key.session_id))


def decode_page_cursor(cursor: str) -> PageKey:
    """Return the key that `encode_page_cursor` encoded.

    Raises Problem 422.
    """
    name, created_at, session_id = _decode(_page_key, cursor)
    known = created_at.tzinfo is not None and FIRST_YEAR <= created_at.year <= LAST_YEAR
    if name != "sessions" or not known or not is_session_id(session_id):
        raise invalid_cursor()
    return PageKey(created_at, session_id)


def encode_number_cursor(name: str, number: int) -> str:
    """Return the opaque cursor of the page of a numbered list after this number."""
    return _encode((name, number))


def decode_number_cursor(name: str, cursor: str) -> int:
    """Return the number that `encode_number_cursor` encoded for the same list.

    Raises Problem 422.
    """
    found, number = _decode(_number, cursor)
    if found != name or not 0 <= number <= LARGEST_SEQUENCE:
        raise invalid_cursor()
    return number


def encode_past_cursor(name: str, sequence: int, number: int) -> str:
    """Return the opaque cursor of the page of a numbered list after this number, as of a sequence."""
    return _encode((name, sequence, number))


def decode_past_cursor(name: str, cursor: str) -> tuple[int, int]:
    """Return the sequence and the number that `encode_past_cursor` encoded for the same list.

    Raises Problem 422.
    """
    found, sequence, number = _decode(_numbers, cursor)
    if found != name or not 0 <= number <= sequence <= LARGEST_SEQUENCE:
        raise invalid_cursor()
    return sequence, number


def encode_name_cursor(name: str, last: str) -> str:
    """Return the opaque cursor of the page of a list sorted by name after this one."""
    return _encode((name, last))


def decode_name_cursor(name: str, cursor: str) -> str:
    """Return the name that `encode_name_cursor` encoded for the same list.

    Raises Problem 422.
    """
    found, last = _decode(_text, cursor)
    if found != name:
        raise invalid_cursor()
    return last


def _encode(key: tuple[object, ...]) -> str:
    raw = msgspec.json.encode(key)
    return base64.urlsafe_b64encode(VERSION + _checksum(raw) + raw).rstrip(b"=").decode()


def _decode(decoder: msgspec.json.Decoder[T], cursor: str) -> T:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        start = len(VERSION) + CHECKSUM_BYTES
        if raw[:start] != VERSION + _checksum(raw[start:]):
            raise invalid_cursor()
        return decoder.decode(raw[start:])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise invalid_cursor() from error


def _checksum(raw: bytes) -> bytes:
    return zlib.crc32(raw).to_bytes(CHECKSUM_BYTES, "big")


def invalid_cursor() -> Problem:
    """Return the problem for a cursor that is not one of the list."""
    message = "is not a cursor of this list: pass the `next` of a page as it is, or none to start again"
    return invalid("cursor", "query", message, "invalid_cursor")
