"""The ASGI application."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from antiphon.chassis.health import routes as health_routes
from antiphon.session_api import flow_routes, openapi, problems
from antiphon.session_api.dependencies import Dependencies
from antiphon.session_api.requests import Requests
from antiphon.session_api.sessions import routes as session_routes

DESCRIPTION = """\
Create voice sessions, look at them, follow them live, end them.

Every session is a log of events: `GET /v1/sessions/{id}/events` is that log, as pages or as a stream,
for running and for ended sessions alike. All else is a fold of it. Errors are `application/problem+json`.
"""


def create_app(dependencies: Dependencies) -> FastAPI:
    """Build the application around its dependencies."""
    app = FastAPIOffline(
        title="Antiphon",
        version=version("antiphon-session-api"),
        description=DESCRIPTION,
        docs_url="/docs",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
        # Spans yes; no copies of what callers sent, and no span for every step within a request.
        telemetry={"logs": False, "operation_spans": False},
    )
    app.state.dependencies = dependencies
    app.add_middleware(Requests)
    problems.install(app)
    app.router.routes.extend(health_routes(dependencies.health))
    # Not include_router: routers within routers are matched twice, at a third of a create's cost.
    app.router.routes.extend((*session_routes.router.routes, *flow_routes.router.routes))
    openapi.install(app)
    return app
