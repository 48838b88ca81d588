"""The ASGI application: one route, with a response for every error."""

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from antiphon.chassis.bus import BusUnavailable, PayloadTooLarge
from antiphon.chassis.health import Health
from antiphon.chassis.health import routes as health_routes
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.middleware import RequestMiddleware
from antiphon.chassis.http.problem import Problem, of_status, problem_response
from antiphon.contracts.errors import InvalidEvent, MalformedEvent
from antiphon.webhook_ingest.metrics import webhooks
from antiphon.webhook_ingest.publisher import RoomNotYetAdopted, WebhookPublisher
from antiphon.webhook_ingest.settings import RETRY_AFTER_SECONDS
from antiphon.webhook_ingest.signatures import BadSignature
from antiphon.webhook_ingest.webhook import MalformedWebhook

PATH = "/api/v1/webhooks/livekit"

log = structlog.get_logger(__name__)


def create_app(publisher: WebhookPublisher, health: Health, policy: HttpPolicy) -> Starlette:
    """Return the application."""

    async def receive(request: Request) -> Response:
        digest = publisher.verify(request.headers.get("authorization", ""))
        outcome = await publisher.publish(await request.body(), digest)
        return JSONResponse({"outcome": outcome})

    app = Starlette(routes=[Route(PATH, receive, methods=["POST"]), *health_routes(health)])
    app.router.redirect_slashes = False  # to wherever `Host` says
    app.add_exception_handler(HTTPException, to_response)
    app.add_middleware(RequestMiddleware, policy=policy, routes=app.router.routes, to_response=to_response)
    return app


def to_response(request: Request, error: Exception) -> Response:
    """Return an error as a problem document.

    It is a 503 when a retry may succeed, also after an internal error, so that none loses a webhook: LiveKit
    does not retry after a 4xx.
    """
    problem = _as_problem(error)
    if isinstance(error, RoomNotYetAdopted):
        log.info("webhook.deferred", reason=str(error))
    elif request.scope["path"] == PATH:
        kind = problem.kind
        webhooks.add(1, "rejected")
        log.warning("webhook.rejected", status=problem.status_code, kind=kind, detail=problem.detail)
    return problem_response(request, problem)


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            return of_status(error)
        case BadSignature():
            return Problem(401, "bad-signature", str(error))
        case MalformedWebhook() | MalformedEvent() | InvalidEvent():
            return Problem(400, "malformed-webhook", str(error))
        case PayloadTooLarge():
            return Problem(413, "content-too-large", str(error))
        case RoomNotYetAdopted():
            # without Retry-After, LiveKit tries again after 1, 2, 4 and 8 seconds
            return Problem(503, "room-not-yet-adopted", str(error))
        case BusUnavailable():
            return _retry("broker-unavailable", "the event broker is unavailable; try again")
        case _:
            log.error("webhook.failed", exc_info=error)
            return _retry("internal-error", "internal error; try again")


def _retry(kind: str, detail: str) -> Problem:
    return Problem(503, kind, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
