"""Pages of lists: `{"<name>": […], "next": <cursor or null>}`, and the opaque cursors between them."""

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime

import msgspec
import orjson
from starlette.responses import Response

from antiphon.session_api.problems import Problem, invalid


class PageKey(msgspec.Struct, frozen=True):
    """The sort key of the last session on a page; newest sessions come first."""

    created_at: datetime
    session_id: str


_page_key = msgspec.json.Decoder(PageKey)


def page(name: str, items: Iterable[bytes | str], following: str | int | None) -> Response:
    """Return a page of items encoded as JSON; `following` is its `next`, None on the last page."""
    joined = b",".join(item.encode() if isinstance(item, str) else item for item in items)
    body = b'{"%s":[%s],"next":%s}' % (name.encode(), joined, orjson.dumps(following))
    return Response(body, media_type="application/json")


def encode_page_cursor(key: PageKey) -> str:
    """Return the opaque cursor of the page after this key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_page_cursor(cursor: str) -> PageKey:
    """Return the key that `encode_page_cursor` encoded.

    Raises Problem 422.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _page_key.decode(raw)
    except (binascii.Error, ValueError) as error:
        raise _invalid_cursor() from error


def decode_number_cursor(cursor: str) -> int:
    """Return the number that a cursor of a numbered list encodes.

    Raises Problem 422.
    """
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise _invalid_cursor()
    return int(cursor)


def _invalid_cursor() -> Problem:
    return invalid("cursor", "query", "is not a cursor of this list")
