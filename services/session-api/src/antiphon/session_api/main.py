"""Start session-api: connect, wire, serve."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import structlog

from antiphon.chassis.bus import VERIFY_SECONDS, Bus, StreamFull, WatchedBucket
from antiphon.chassis.database import Database
from antiphon.chassis.deployment import DeploymentCheck, deployment_of
from antiphon.chassis.health import not_stopping
from antiphon.chassis.http.server import check_address, serve_http
from antiphon.chassis.scrape import serving_metrics
from antiphon.chassis.shutdown import ShuttingDown, delayed, wait_or_stop
from antiphon.chassis.telemetry import configure
from antiphon.contracts.api_keys import key_digest
from antiphon.contracts.audit import Actor
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies, wire
from antiphon.session_api.flows.known import without_source
from antiphon.session_api.livekit import LiveKit
from antiphon.session_api.postgres_rights import PostgresRights
from antiphon.session_api.settings import ApiSettings
from antiphon.session_api.view_columns import ViewColumns

log = structlog.get_logger(__name__)

SERVICE = "session-api"
POSTGRES_MARGIN_SECONDS = 1.0  # of the client, after the time limit of a statement


async def serve(settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve until stopped.

    Raises BusUnavailable when the broker cannot be reached at start; Postgres and LiveKit may be down.
    Raises OSError when it cannot listen at its address.
    """
    configure(SERVICE, settings)
    check_address(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(ShuttingDown))  # SIGTERM during the start
        await stack.enter_async_context(serving_metrics(settings))
        bus = await wait_or_stop(Bus.connect(settings.nats, name=SERVICE), stop)
        stack.push_async_callback(bus.close)
        await wait_or_stop(bus.verify(wait_seconds=VERIFY_SECONDS), stop)
        deployment = await wait_or_stop(deployment_of(bus), stop)
        keys = await wait_or_stop(_watch(bus, "keys"), stop)
        stack.push_async_callback(keys.close)
        flows = await wait_or_stop(_watch(bus, "flows", keep=without_source), stop)
        stack.push_async_callback(flows.close)
        database = await connect_database(settings)
        stack.push_async_callback(database.close)
        livekit_keys = settings.livekit_keys()
        livekit = LiveKit(
            settings.livekit_url,
            livekit_keys,
            deployment=deployment.id,
            timeout_seconds=settings.livekit_timeout_seconds,
        )
        stack.push_async_callback(livekit.close)
        closing = await stack.enter_async_context(delayed(stop, settings.shutdown_delay_seconds))
        dependencies = wire(
            settings,
            bus=bus,
            database=database,
            rooms=livekit,
            livekit_keys=livekit_keys,
            keys=keys,
            flows=flows,
            deployment=deployment,
            stopping=closing,
        )
        dependencies.health.add("stopping", not_stopping(stop))
        dependencies.health.add("views", ViewColumns(database).check)
        dependencies.health.add("postgres rights", PostgresRights(database).check)
        dependencies.health.add("deployment", DeploymentCheck(bus, deployment).check)
        dependencies.health.add("keys", keys.ready)  # a key that was revoked must not open anything
        dependencies.health.add("flows", flows.ready)
        if settings.bootstrap_api_key is not None:
            await wait_or_stop(_bootstrap(dependencies, settings.bootstrap_api_key), stop)
        stack.push_async_callback(dependencies.limits.sessions.close)
        stack.push_async_callback(dependencies.limits.streams.close)
        stack.push_async_callback(dependencies.hubs.close)
        stack.push_async_callback(dependencies.key_store.leftovers.close)
        dependencies.key_usage.start()
        stack.push_async_callback(dependencies.key_usage.close)
        app = create_app(dependencies)
        await stack.enter_async_context(dependencies.health.watched())
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


async def _watch(bus: Bus, bucket: str, keep: Callable[[bytes], bytes] = bytes) -> WatchedBucket:
    return await (await bus.bucket(bucket)).watch(keep=keep)


async def _bootstrap(dependencies: Dependencies, secret: str) -> None:
    """Store the key of the setting, unless it is stored; say so when it opens nothing.

    A full bucket of audit records takes no new key, and those who have one are served.
    """
    try:
        stored = await dependencies.key_store.bootstrap(secret, Actor(f"service:{SERVICE}"))
    except StreamFull as error:
        log.exception("keys.not_bootstrapped", error=str(error), remedy="make room, and start it again")
        return
    if stored:
        log.info("keys.bootstrapped")
    elif not dependencies.keys.usable(key_digest(secret)):
        log.warning("keys.bootstrap_ended", remedy="the key was revoked or has expired: set another secret")


async def connect_database(settings: ApiSettings) -> Database:
    """Return the pool, which connects on the first read: creating sessions needs no Postgres."""
    return await Database.connect(
        settings.postgres_dsn,
        name=SERVICE,
        min_size=0,
        max_size=settings.pool_size,
        acquire_timeout_seconds=settings.postgres_pool_timeout_seconds,
        statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
        client_margin_seconds=POSTGRES_MARGIN_SECONDS,
    )
