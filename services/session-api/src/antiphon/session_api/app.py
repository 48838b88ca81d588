"""The ASGI application."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from antiphon.chassis.health import routes as health_routes
from antiphon.chassis.http.middleware import RequestMiddleware
from antiphon.session_api import (
    analytics_routes,
    audit_routes,
    export_routes,
    feed_routes,
    flow_routes,
    key_routes,
    openapi,
    problem_pages,
    problems,
    routes,
)
from antiphon.session_api.auth import AuthMiddleware
from antiphon.session_api.dependencies import Dependencies
from antiphon.session_api.quotas import LimitsMiddleware

DESCRIPTION = """\
Create, inspect, follow and end voice sessions.

Every session is a log of events: `GET /v1/sessions/{id}/events` returns it, as pages or as a stream, for
running and for ended sessions, and `GET /v1/events` those of all sessions. All other state is computed from
them. Errors are `application/problem+json`.
"""


def create_app(dependencies: Dependencies) -> FastAPI:
    """Return the application with its routes, errors and OpenAPI document."""
    app = FastAPIOffline(
        title="Antiphon",
        version=version("antiphon-session-api"),
        description=DESCRIPTION,
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # to wherever `Host` says
        swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
        # One span per request, the middleware's; no copies of request data in logs.
        telemetry={"tracing": False, "logs": False, "metrics": False},
    )
    app.state.dependencies = dependencies
    limits = dependencies.limits
    app.add_middleware(
        LimitsMiddleware,
        requests=limits.requests,
        of_tenants=limits.tenant_requests,
        creates=limits.creates,
    )
    app.add_middleware(
        AuthMiddleware,
        keys=dependencies.keys,
        usage=dependencies.key_usage,
        failures=limits.failures,
        clock=dependencies.clock,
    )
    app.add_middleware(  # last, so that it is the outermost: it renders the problems that the others raise
        RequestMiddleware,
        policy=dependencies.http,
        routes=app.router.routes,
        to_response=problems.problem_response,
    )
    problems.install(app)
    app.router.routes.extend(health_routes(dependencies.health))
    # Not include_router: nested routers match twice, at a third of the cost of a create.
    app.router.routes.extend((*routes.sessions.routes, *routes.tokens.routes, *flow_routes.flows.routes))
    app.router.routes.extend((*flow_routes.sources.routes, *flow_routes.publishing.routes))
    app.router.routes.extend((*key_routes.keys.routes, *audit_routes.audit.routes))
    app.router.routes.extend(analytics_routes.analytics.routes)
    app.router.routes.extend((*feed_routes.events.routes, *export_routes.exports.routes))
    app.router.routes.extend(problem_pages.routes())
    openapi.install(app)
    return app
