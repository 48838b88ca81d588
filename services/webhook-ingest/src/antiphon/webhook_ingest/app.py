"""The ASGI application: one route, and an answer for everything that can come to it."""

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from antiphon.chassis.bus import BusUnavailable, PayloadTooLarge
from antiphon.chassis.health import Health
from antiphon.chassis.health import routes as health_routes
from antiphon.chassis.tracing import continue_from, span
from antiphon.webhook_ingest.ingest import Ingest
from antiphon.webhook_ingest.signatures import BadSignature
from antiphon.webhook_ingest.webhook import MalformedWebhook

PATH = "/api/v1/webhooks/livekit"
BODY_LIMIT_BYTES = 512 * 1024

log = structlog.get_logger(__name__)


class BodyTooLarge(Exception):
    """The body has more bytes than any webhook of LiveKit."""


def create_app(ingest: Ingest, health: Health) -> Starlette:
    """Build the application."""

    async def receive(request: Request) -> Response:
        with continue_from(request.headers.get("traceparent")), span(f"POST {PATH}"):
            return await _take(ingest, request)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"]), *health_routes(health)])


async def _take(ingest: Ingest, request: Request) -> Response:
    try:
        body = await _body(request)
        outcome = await ingest.take(body, request.headers.get("authorization", ""))
    except Exception as error:  # noqa: BLE001 - LiveKit retries on 503, so nothing is lost by our faults
        return _refusal(error)
    return JSONResponse({"outcome": outcome})


def _refusal(error: Exception) -> Response:
    """Answer so that LiveKit does what helps: 4xx is never sent again, 503 is."""
    match error:
        case BadSignature():
            return _problem(401, "bad-signature", str(error))
        case MalformedWebhook():
            return _problem(400, "malformed-webhook", str(error))
        case BodyTooLarge() | PayloadTooLarge():
            return _problem(413, "content-too-large", str(error) or f"at most {BODY_LIMIT_BYTES} bytes")
        case ClientDisconnect():
            return _problem(400, "client-disconnected", "the body did not come whole")
        case BusUnavailable():
            return _problem(503, "broker-unavailable", "the event broker does not answer; send it again")
        case _:
            log.error("webhook.failed", exc_info=error)
            return _problem(503, "internal-error", "not taken; send it again")


def _problem(status: int, kind: str, detail: str) -> Response:
    log.warning("webhook.refused", status=status, kind=kind, detail=detail)
    body = {
        "type": f"https://antiphon.dev/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": PATH,
    }
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(body, status, headers, "application/problem+json")


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > BODY_LIMIT_BYTES:
        raise BodyTooLarge(f"{announced} bytes; at most {BODY_LIMIT_BYTES}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise BodyTooLarge(f"more than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)
