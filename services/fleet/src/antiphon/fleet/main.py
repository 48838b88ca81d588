"""Start the fleet service: connect, wire, serve."""

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial

from antiphon.chassis.background import BackgroundTask, BackgroundTaskFailed
from antiphon.chassis.bus import Bus
from antiphon.chassis.health import Health
from antiphon.chassis.http.server import check_address, serve_http
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.chassis.telemetry import configure
from antiphon.fleet.app import create_app
from antiphon.fleet.deletion_costs import DeletionCosts
from antiphon.fleet.hearing import check_broker, hear
from antiphon.fleet.metrics import watch
from antiphon.fleet.pods import connect
from antiphon.fleet.settings import SERVICE, FleetSettings
from antiphon.fleet.workers import Workers


async def serve(settings: FleetSettings, stop: asyncio.Event) -> None:
    """Serve until stopped.

    Raises BusUnavailable when the broker cannot be reached at start, NotOnKubernetes when pods shall be
    written and cannot, OSError when it cannot listen at its address.
    """
    configure(SERVICE, settings)
    check_address(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(ShuttingDown))  # SIGTERM during the start
        pods = connect(settings) if settings.deletion_cost == "kubernetes" else None
        if pods is not None:
            stack.push_async_callback(pods.close)
        bus = await wait_or_stop(Bus.connect(settings.nats, name=SERVICE), stop)
        stack.push_async_callback(bus.close)
        workers = Workers()
        stack.callback(watch(workers))
        hearing = BackgroundTask(partial(hear, bus, workers), name="heartbeats")
        stack.push_async_callback(hearing.close)
        health = Health(
            {"broker": partial(check_broker, bus), "heartbeats": hearing.ready, "workers": workers.check}
        )
        if pods is not None:
            writing = BackgroundTask(DeletionCosts(workers, pods).run, name="deletion costs")
            stack.push_async_callback(writing.close)
            health.add("deletion costs", partial(_as_a_warning, writing))
        await stack.enter_async_context(health.watched())
        app = create_app(workers, health, settings.warm_calls, settings.http_policy)
        await serve_http(app, settings.host, settings.port, stop)


async def _as_a_warning(task: BackgroundTask) -> str:
    # Scaling works without the costs: a red readiness would take away both.
    try:
        task.check()
    except BackgroundTaskFailed as error:
        return f"idle pods may not be removed first: {error}"
    return ""
