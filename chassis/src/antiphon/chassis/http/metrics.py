"""The metrics of an HTTP server that the public reaches: rate, errors and duration of its requests."""

from typing import Final

from antiphon.chassis.metrics import OTHER, AtMost, counter, gauge, histogram

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)
UNMATCHED: Final = "unmatched"  # the route of a request whose path is none of the service

# as OpenTelemetry proposes; the time of a stream is that until its response starts
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

duration = histogram(
    "http.server.request.duration",
    description="Time from the head of a request to the end of its response; of an event stream, to its "
    "start",
    bounds=BOUNDS,
    labels={
        "http.request.method": METHODS,
        "http.route": AtMost(100, "the templates of the service's paths, and `unmatched`"),
        "http.response.status_code": AtMost(40, "status codes, 499 if the client left before a response"),
    },
)
active = gauge(
    "http.server.active_requests",
    unit="{request}",
    description="Requests that are being answered, event streams included",
    labels={"http.request.method": METHODS},
)
connections = gauge(
    "antiphon.http.connections", unit="{connection}", description="Open connections of clients"
)
problems = counter(
    "antiphon.http.problems",
    unit="{response}",
    description="Responses that are problem documents; each type has a page under /problems/ of session-api",
    labels={"type": AtMost(100, "the types of problems, without the start of the URL")},
)
