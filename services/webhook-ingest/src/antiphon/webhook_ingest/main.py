"""Start webhook-ingest: connect, wire, serve."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

from antiphon.chassis.bus import VERIFY_SECONDS, Bus
from antiphon.chassis.deployment import DeploymentCheck, deployment_of
from antiphon.chassis.health import Health, not_stopping
from antiphon.chassis.http.server import check_address, serve_http
from antiphon.chassis.scrape import serving_metrics
from antiphon.chassis.shutdown import ShuttingDown, delayed, wait_or_stop
from antiphon.chassis.telemetry import configure
from antiphon.contracts.streams import DEPLOYMENT, ROOMS
from antiphon.webhook_ingest.app import create_app
from antiphon.webhook_ingest.ended_rooms import EndedRooms, LiveKitRooms
from antiphon.webhook_ingest.publisher import PRODUCER, WebhookPublisher
from antiphon.webhook_ingest.settings import WebhookSettings


def _now() -> datetime:
    return datetime.now(UTC)


async def serve(settings: WebhookSettings, stop: asyncio.Event) -> None:
    """Serve until stopped.

    Raises BusUnavailable when the broker cannot be reached at start, OSError when it cannot listen at its
    address.
    """
    configure(PRODUCER, settings)
    check_address(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(ShuttingDown))  # SIGTERM during the start
        await stack.enter_async_context(serving_metrics(settings))
        bus = await wait_or_stop(Bus.connect(settings.nats, name=PRODUCER), stop)
        stack.push_async_callback(bus.close)
        await wait_or_stop(bus.verify(wait_seconds=VERIFY_SECONDS, buckets=(ROOMS, DEPLOYMENT)), stop)
        deployment = await wait_or_stop(deployment_of(bus), stop)
        keys = settings.livekit_keys()
        rooms = LiveKitRooms(settings.livekit_url, keys)
        ended_rooms = EndedRooms(bus, rooms)
        stack.push_async_callback(ended_rooms.close)
        publisher = WebhookPublisher(
            bus,
            deployment=deployment.id,
            keys=keys,
            clock=_now,
            timeout_seconds=settings.broker_timeout_seconds,
            ended_rooms=ended_rooms,
        )
        identity = DeploymentCheck(bus, deployment)
        health = Health({"broker": bus.ready, "publish": bus.publishable, "deployment": identity.check})
        health.add("stopping", not_stopping(stop))
        await stack.enter_async_context(health.watched())
        closing = await stack.enter_async_context(delayed(stop, settings.shutdown_delay_seconds))
        app = create_app(publisher, health, settings.http_policy)
        await serve_http(
            app,
            settings.host,
            settings.port,
            closing,
            limits=settings.server_limits,
            draining=stop,
            grace_seconds=settings.deadline_seconds,
            counted=True,
        )
