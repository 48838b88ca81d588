"""`GET /metrics`: on the health port of a service, or on its own port if the public reaches the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import import_module

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.http.server import check_address, serve_http
from antiphon.chassis.settings import Port, Settings, Text

PATH = "/metrics"
END_SECONDS = 2.0  # for a scrape that is being answered
_EXPOSITION = "antiphon.chassis.metrics.exposition"


class MetricsSettings(Settings):
    """Where a service that the public reaches serves its metrics."""

    metrics_host: Text = Field(
        "127.0.0.1",
        validation_alias="ANTIPHON_METRICS_HOST",
        description="where the service listens for scrapes of `/metrics`",
    )
    metrics_port: Port | None = Field(
        None,
        validation_alias="ANTIPHON_METRICS_PORT",
        description="the port of `/metrics`; without it, metrics are not served",
    )


def routes() -> list[BaseRoute]:
    """Return the route of the metrics, for a server that the public does not reach."""
    return [Route(PATH, _metrics)]


async def _metrics(request: Request) -> Response:
    # imported for the first scrape, in a thread: a service that nobody scrapes does not pay for it
    exposition = await asyncio.to_thread(import_module, _EXPOSITION)
    body, media_type = exposition.encoded(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": media_type})


@asynccontextmanager
async def serving_metrics(settings: MetricsSettings) -> AsyncIterator[None]:
    """Serve the metrics on a port of their own while the block runs, if a port is set.

    Raises OSError naming address and port.
    """
    if settings.metrics_port is None:
        yield
        return
    check_address(settings.metrics_host, settings.metrics_port)
    ended = asyncio.Event()
    app = Starlette(routes=routes())
    serve = partial(serve_http, app, settings.metrics_host, settings.metrics_port, ended, lifespan=False)
    serving = BackgroundTask(serve, name="metrics")
    try:
        yield
    finally:
        ended.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await serving.ended()
        await serving.close()
