"""Which part is made of which: the whole service in one function."""

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.session_api.dependencies import Dependencies
from antiphon.session_api.flows import Flows
from antiphon.session_api.keys import Keys
from antiphon.session_api.readiness import Readiness
from antiphon.session_api.sessions.create import CreateSession, Rooms
from antiphon.session_api.sessions.end import EndSession
from antiphon.session_api.sessions.join import JoinSession
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.producer import Producer
from antiphon.session_api.sessions.queries import Views
from antiphon.session_api.sessions.record import Record
from antiphon.session_api.settings import ApiSettings
from antiphon.session_api.tokens import JoinTokens


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def wire(
    settings: ApiSettings,
    *,
    bus: Bus,
    database: Database,
    rooms: Rooms,
    keys: Mapping[str, bytes],
    flows: Mapping[str, bytes],
    stopping: asyncio.Event,
    clock: Callable[[], datetime] = now,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Dependencies:
    """Build what the routes work with; `keys` and `flows` are the watched buckets."""
    log, record, views = Log(database, bus), Record(bus), Views(database)
    lookup = Lookup(views, record, log)
    producer = Producer(bus, clock, timeout_seconds=settings.broker_timeout_seconds)
    tokens = JoinTokens(settings.livekit_api_key, settings.livekit_api_secret, settings.agent_name)
    known_flows = Flows(flows)
    return Dependencies(
        keys=Keys(keys),
        flows=known_flows,
        create=CreateSession(
            producer,
            record,
            rooms,
            known_flows,
            agent_name=settings.agent_name,
            clock=clock,
            entropy=entropy,
        ),
        join=JoinSession(
            lookup,
            tokens,
            livekit_url=settings.callers_livekit_url,
            ttl_seconds=settings.token_ttl_seconds,
        ),
        end=EndSession(lookup, record, producer, rooms, clock=clock),
        lookup=lookup,
        views=views,
        log=log,
        health=Readiness(required={"broker": bus.ready}, reported={"postgres": database.ready}),
        stopping=stopping,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
