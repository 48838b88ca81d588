"""The metrics of session-api, beside those of its HTTP server and of its connections."""

from antiphon.chassis.metrics import gauge

streams = gauge("antiphon.http.streams", unit="{stream}", description="Open event streams, exports included")
