"""What the routes of /v1/events respond with, as the OpenAPI document shows it."""

from antiphon.session_api import examples
from antiphon.session_api.components import reference
from antiphon.session_api.feed.export import MEDIA_TYPE as LINES
from antiphon.session_api.route_docs import answer, route
from antiphon.session_api.sessions.sse import MEDIA_TYPE as EVENT_STREAM

_PAGE = {"items": [examples.EVENT], "next": examples.FEED_CURSOR, "more": True}
ALL_EVENTS = route(
    {
        200: {
            "description": "A page of events; with `Accept: text/event-stream` a stream of them, without end",
            "content": {
                **answer("", reference("EventPage"), _PAGE)["content"],
                EVENT_STREAM: {
                    "schema": {
                        "type": "string",
                        "description": (
                            "Server-sent events: `id` is the cursor after the event, `event` the type, "
                            "`data` an Event as JSON. Lines that begin with a colon are heartbeats; an `id` "
                            "follows them, from which a stream resumes."
                        ),
                    },
                    "example": examples.FEED,
                },
            },
        },
    },
    "invalid-cursor",
    "database-unavailable",
)
EXPORT = route(
    {
        200: {
            "description": "The events, with control lines between them",
            "content": {
                LINES: {
                    "schema": {
                        "type": "string",
                        "description": (
                            'Lines of JSON: an Event, or `{"cursor": …, "until": …, "progress": …, '
                            '"complete": …}`. `progress` is the part of the log that was read, 0 to 1.'
                        ),
                    },
                    "example": examples.EXPORT,
                },
            },
        },
    },
    "invalid-cursor",
    "database-unavailable",
)
