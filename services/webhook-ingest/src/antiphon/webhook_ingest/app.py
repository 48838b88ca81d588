"""The ASGI application: one route, with a response for every error."""

from collections.abc import Mapping

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from antiphon.chassis.bus import BusUnavailable, PayloadTooLarge
from antiphon.chassis.health import Health
from antiphon.chassis.health import routes as health_routes
from antiphon.chassis.tracing import continue_from, span
from antiphon.webhook_ingest.publisher import RoomNotYetAdopted, WebhookPublisher
from antiphon.webhook_ingest.signatures import BadSignature
from antiphon.webhook_ingest.webhook import MalformedWebhook

PATH = "/api/v1/webhooks/livekit"
BODY_LIMIT_BYTES = 512 * 1024
# LiveKit makes four more attempts, so an outage of forty seconds loses no webhook
OUTAGE_HEADERS = {"Retry-After": "10"}

log = structlog.get_logger(__name__)


class BodyTooLarge(Exception):
    """The body is larger than any LiveKit webhook."""


def create_app(publisher: WebhookPublisher, health: Health) -> Starlette:
    """Return the application."""

    async def receive(request: Request) -> Response:
        with continue_from(request.headers.get("traceparent")), span(f"POST {PATH}"):
            return await _handle(publisher, request)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"]), *health_routes(health)])


async def _handle(publisher: WebhookPublisher, request: Request) -> Response:
    try:
        body = await _body(request)
        outcome = await publisher.publish(body, request.headers.get("authorization", ""))
    except Exception as error:  # noqa: BLE001 - LiveKit retries after a 503, so no internal error loses a webhook
        return _error_response(error)
    return JSONResponse({"outcome": outcome})


def _error_response(error: Exception) -> Response:
    """Return 503 when a retry may succeed; LiveKit does not retry after a 4xx."""
    match error:
        case BadSignature():
            return _problem(401, "bad-signature", str(error))
        case MalformedWebhook():
            return _problem(400, "malformed-webhook", str(error))
        case BodyTooLarge() | PayloadTooLarge():
            return _problem(413, "content-too-large", str(error) or f"at most {BODY_LIMIT_BYTES} bytes")
        case ClientDisconnect():
            return _problem(400, "client-disconnected", "the request body is incomplete")
        case RoomNotYetAdopted():
            # without Retry-After, LiveKit tries again after 1, 2, 4 and 8 seconds
            log.info("webhook.deferred", reason=str(error))
            return _response(503, "room-not-yet-adopted", str(error))
        case BusUnavailable():
            return _problem(503, "broker-unavailable", "the event broker is unavailable; try again")
        case _:
            log.error("webhook.failed", exc_info=error)
            return _problem(503, "internal-error", "internal error; try again")


def _problem(status: int, kind: str, detail: str) -> Response:
    log.warning("webhook.rejected", status=status, kind=kind, detail=detail)
    return _response(status, kind, detail, OUTAGE_HEADERS if status == 503 else None)


def _response(status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {
        "type": f"https://antiphon.dev/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": PATH,
    }
    return JSONResponse(body, status, headers, "application/problem+json")


async def _body(request: Request) -> bytes:
    content_length = request.headers.get("content-length", "0")
    if content_length.isdigit() and int(content_length) > BODY_LIMIT_BYTES:
        raise BodyTooLarge(f"{content_length} bytes; at most {BODY_LIMIT_BYTES}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise BodyTooLarge(f"more than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)
