"""Pages: `{"<what>": […], "next": <cursor or null>}`, written from JSON that is JSON already."""

import base64
import binascii
from collections.abc import Iterable

import msgspec
import orjson
from starlette.responses import Response

from antiphon.session_api.problems import Problem, invalid
from antiphon.session_api.sessions.queries import SessionsPlace

_place = msgspec.json.Decoder(SessionsPlace)


def page(name: str, items: Iterable[bytes | str], following: str | int | None) -> Response:
    """Write a page; `following` is what to ask for next, None when this is the last."""
    joined = b",".join(item.encode() if isinstance(item, str) else item for item in items)
    body = b'{"%s":[%s],"next":%s}' % (name.encode(), joined, orjson.dumps(following))
    return Response(body, media_type="application/json")


def _no_cursor() -> Problem:
    return invalid("cursor", "query", "is not a cursor that this list handed out")


def write_place(place: SessionsPlace) -> str:
    """Return a place in the list of sessions as an opaque cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def read_place(cursor: str) -> SessionsPlace:
    """Read a cursor that `write_place` made.

    Raises Problem 422.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _place.decode(raw)
    except (binascii.Error, ValueError) as error:
        raise _no_cursor() from error


def read_number(cursor: str) -> int:
    """Read the cursor of a list that is numbered.

    Raises Problem 422.
    """
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise _no_cursor()
    return int(cursor)
