"""One page of a tenant's events: `{"items": […], "next": <cursor>, "more": <whether there are more now>}`."""

import time

import orjson
from starlette.responses import Response

from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import encode
from antiphon.contracts.subjects import PARTITIONS
from antiphon.session_api.feed.filters import EventFilter
from antiphon.session_api.feed.reading import FeedReader
from antiphon.session_api.pagination import PAGE_BYTES

SCAN_SECONDS = 1.0  # for a page: a filter may leave out most of a long log


async def event_page(
    reader: FeedReader, log_id: str, tenant: str, wanted: EventFilter, cursor: Cursor, limit: int
) -> Response:
    """Return the events after a cursor as a page: at most `limit` and about PAGE_BYTES.

    It may hold fewer, or none, and there may be more: what a page looks through is limited too.
    Raises DatabaseUnavailable.
    """
    until = await reader.log.head()
    ends_at = time.monotonic() + SCAN_SECONDS
    items: list[bytes] = []
    size = 0
    more = not cursor.reaches(until, range(PARTITIONS))
    while more and len(items) < limit and size < PAGE_BYTES and time.monotonic() < ends_at:
        found = await reader.step(
            tenant, wanted, cursor, until, limit=limit - len(items), max_bytes=PAGE_BYTES - size
        )
        cursor = found.cursor
        items += map(encode, found.envelopes)
        size = sum(map(len, items))
        more = not cursor.reaches(until, range(PARTITIONS))
    following = orjson.dumps(cursor.encode(log_id))
    body = b'{"items":[%s],"next":%s,"more":%s}' % (b",".join(items), following, orjson.dumps(more))
    return Response(body, media_type="application/json")
