"""A tenant's events as server-sent events, without end: each id is the cursor after its event."""

import asyncio

from antiphon.contracts.cursor import Cursor
from antiphon.session_api.feed.blocks import id_line
from antiphon.session_api.feed.filters import EventFilter
from antiphon.session_api.feed.hub import Hubs
from antiphon.session_api.feed.subscriber import Subscriber
from antiphon.session_api.sessions.sse import Chunks, StreamEnd

RETRY = b"retry: 1000\n"
COMMENT = b": keep-alive\n"
PROGRESS_SECONDS = 1.0  # between two ids while a filter leaves out what is looked through


async def live(
    hubs: Hubs,
    tenant: str,
    wanted: EventFilter,
    cursor: Cursor,
    *,
    heartbeat_seconds: float,
    stream: StreamEnd,
) -> Chunks:
    """Yield the events after a cursor as they are committed, until `stream` says that it ends.

    After every `heartbeat_seconds` without one, and every second while none passes the filter, a comment
    gives the id to resume after. A chunk may be empty, so that its sender can end the stream at any time.
    """
    now, woken = asyncio.get_running_loop().time, asyncio.Event()
    stream.add(woken.set)
    try:
        async with hubs.subscribed(tenant, woken.set) as hub:
            subscriber = Subscriber(hubs, hub, wanted, cursor, woken)
            yield RETRY + id_line(cursor, hubs.log_id) + b"\n"
            sent_at = now()
            while not stream.stopping:
                chunk = await subscriber.next(max(0.0, sent_at + heartbeat_seconds - now()))
                quiet = heartbeat_seconds
                if subscriber.behind:
                    quiet = min(quiet, PROGRESS_SECONDS)
                if not chunk and now() >= sent_at + quiet:
                    chunk = COMMENT + subscriber.id_line + b"\n"
                if chunk:
                    sent_at = now()
                yield chunk
    finally:
        stream.remove(woken.set)
