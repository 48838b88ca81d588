"""The dependencies of the routes, and the function that wires the service."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from fastapi import Request

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.health import Check, Health
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.chassis.log import Log
from antiphon.contracts.deployment import Deployment
from antiphon.session_api.analytics.queries import Analytics
from antiphon.session_api.audit_records import AuditReader
from antiphon.session_api.feed.export import ExportSlots
from antiphon.session_api.feed.hub import Hubs
from antiphon.session_api.feed.reading import FeedReader
from antiphon.session_api.feed.session_flows import SessionFlows
from antiphon.session_api.flows.known import Flows
from antiphon.session_api.flows.store import FlowStore
from antiphon.session_api.keys.records import Keys
from antiphon.session_api.keys.store import KeyStore
from antiphon.session_api.keys.usage import KeyUsage
from antiphon.session_api.limits import RateLimit
from antiphon.session_api.quotas import SessionQuota
from antiphon.session_api.sessions.create import CreateSession
from antiphon.session_api.sessions.end import EndSession
from antiphon.session_api.sessions.events import EventPublisher, EventReader
from antiphon.session_api.sessions.history import History
from antiphon.session_api.sessions.idempotency import KnownSessions
from antiphon.session_api.sessions.join import JoinSession, JoinTokens
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.queries import Views
from antiphon.session_api.sessions.ready import ReadyWaits
from antiphon.session_api.sessions.room import Rooms
from antiphon.session_api.settings import ApiSettings
from antiphon.session_api.streams import Streams


@dataclass(frozen=True, slots=True)
class Limits:
    """What is counted: failures per client address, and what keys and tenants do."""

    failures: RateLimit
    requests: RateLimit
    tenant_requests: RateLimit
    creates: RateLimit
    sessions: SessionQuota
    streams: Streams


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The dependencies of the routes."""

    keys: Keys
    key_store: KeyStore
    key_usage: KeyUsage
    limits: Limits
    audit: AuditReader
    clock: Callable[[], datetime]
    flows: Flows
    flow_store: FlowStore
    create: CreateSession
    join: JoinSession
    end: EndSession
    lookup: Lookup
    history: History
    ready: ReadyWaits
    views: Views
    analytics: Analytics
    log: Log
    hubs: Hubs
    exports: ExportSlots
    health: Health
    heartbeat_seconds: float
    http: HttpPolicy
    public_url: str | None


class Readiness(Health):
    """Readiness of the service: the required checks decide it, the others are only reported."""

    def __init__(self, required: Mapping[str, Check], reported: Mapping[str, Check]) -> None:
        super().__init__(required)
        self._reported = Health(reported)

    async def report(self) -> dict[str, object]:
        """Run all checks (see Health.report) and add the reported ones under `reported`."""
        report = await super().report()
        reported = await self._reported.report()
        return {**report, "reported": reported["checks"]}


def dependencies_of(request: Request) -> Dependencies:
    """Return the dependencies of the app that handles this request."""
    return cast("Dependencies", request.app.state.dependencies)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def wire(
    settings: ApiSettings,
    *,
    bus: Bus,
    database: Database,
    rooms: Rooms,
    keys: Mapping[str, bytes],
    flows: Mapping[str, bytes],
    deployment: Deployment,
    stopping: asyncio.Event,
    livekit_keys: LiveKitKeys | None = None,
    clock: Callable[[], datetime] = now,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Dependencies:
    """Build the dependencies; `keys` and `flows` are the watched buckets."""
    log, reader, views = Log(database, bus), EventReader(bus), Views(database)
    lookup = Lookup(views, reader, log)
    publisher = EventPublisher(bus, clock, timeout_seconds=settings.broker_timeout_seconds)
    tokens = JoinTokens(livekit_keys or settings.livekit_keys(), deployment=deployment.id)
    agent_name = settings.agent_name or deployment.agent_name
    known_flows = Flows(flows)
    known_keys = Keys(keys, clock)
    key_usage = KeyUsage(bus, known_keys, clock)
    key_store = KeyStore(bus, known_keys, clock, entropy)
    hubs = Hubs(FeedReader(log, database, SessionFlows(database)), deployment.id)
    reported = {
        "postgres": database.ready,
        "feeds": hubs.ready,
        "key usage": key_usage.ready,
        "leftovers of keys": key_store.leftovers.ready,
    }
    limits = _limits(settings, database, known_keys, stopping)
    return Dependencies(
        keys=known_keys,
        key_store=key_store,
        key_usage=key_usage,
        limits=limits,
        audit=AuditReader(bus),
        clock=clock,
        flows=known_flows,
        flow_store=FlowStore(bus, known_flows, clock, check_seconds=settings.flow_check_seconds),
        create=CreateSession(
            publisher,
            reader,
            rooms,
            known_flows,
            KnownSessions(views, now=time.monotonic),
            limits.sessions,
            agent_name=agent_name,
            secret=deployment.secret,
            clock=clock,
            entropy=entropy,
        ),
        join=JoinSession(
            lookup,
            tokens,
            rooms,
            publisher,
            agent_name=agent_name,
            livekit_url=settings.callers_livekit_url,
            ttl_seconds=settings.token_ttl_seconds,
        ),
        end=EndSession(lookup, reader, publisher, rooms, clock=clock),
        lookup=lookup,
        history=History(views, reader, log),
        ready=ReadyWaits(bus, reader, lookup, stopping=stopping),
        views=views,
        analytics=Analytics(database),
        log=log,
        hubs=hubs,
        exports=ExportSlots(),
        # Creating sessions needs no Postgres, so an outage there does not make the service unready.
        health=Readiness(required={"broker": bus.ready, "publish": bus.publishable}, reported=reported),
        heartbeat_seconds=settings.heartbeat_seconds,
        http=settings.http_policy,
        public_url=settings.public_url,
    )


def _limits(settings: ApiSettings, database: Database, keys: Keys, stopping: asyncio.Event) -> Limits:
    per_key, per_tenant = settings.stream_quotas
    return Limits(
        failures=RateLimit("failures", settings.failures_per_address),
        requests=RateLimit("requests", settings.requests_per_key),
        tenant_requests=RateLimit("tenant-requests", settings.requests_per_tenant),
        creates=RateLimit("creates", settings.creates_per_tenant),
        sessions=SessionQuota(database, settings.sessions_per_tenant),
        streams=Streams(keys, stopping, per_key=per_key, per_tenant=per_tenant),
    )
