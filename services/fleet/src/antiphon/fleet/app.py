"""The ASGI application: what autoscalers and people read."""

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from antiphon.chassis import scrape
from antiphon.chassis.health import Health
from antiphon.chassis.health import routes as health_routes
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.middleware import RequestMiddleware
from antiphon.chassis.http.problem import Problem, of_status, problem_response
from antiphon.fleet.settings import RETRY_AFTER_SECONDS
from antiphon.fleet.workers import NothingHeard, Workers

log = structlog.get_logger(__name__)


def create_app(workers: Workers, health: Health, warm_calls: int, policy: HttpPolicy) -> Starlette:
    """Return the application."""

    async def scale(_: Request) -> Response:
        return _json(workers.scale(warm_calls))

    async def each(_: Request) -> Response:
        return _json(workers.states())

    own = [Route("/scale", scale), Route("/workers", each)]
    app = Starlette(routes=[*own, *health_routes(health), *scrape.routes()])
    app.router.redirect_slashes = False  # to wherever `Host` says
    app.add_exception_handler(HTTPException, to_response)
    app.add_middleware(RequestMiddleware, policy=policy, routes=app.router.routes, to_response=to_response)
    return app


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document) + b"\n", media_type="application/json")


def to_response(request: Request, error: Exception) -> Response:
    """Return an error as a problem document: a number that is not known is a 503, never 0."""
    return problem_response(request, _as_problem(error))


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            return of_status(error)
        case NothingHeard():
            return Problem(503, "no-heartbeats", str(error), retry_after_seconds=RETRY_AFTER_SECONDS)
        case _:
            log.error("request.failed", exc_info=error)
            return Problem(500, "internal-error", "internal error; the log has the reason")
