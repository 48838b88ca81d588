"""What a job is to do: its session's request and its flow, both from the bus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
import structlog
from msgspec import UNSET

from antiphon.agent_worker.flow import Flow, load_flow
from antiphon.chassis.bus import Bus, BusError, BusUnavailable
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.event import Family
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.contracts.subjects import event_subject
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

FLOWS_BUCKET = "flows"
LOOK_AGAIN_SECONDS = 0.25


class AssignmentFailed(Exception):
    """The job cannot find out what to do, and why."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Hold a session's flow and where its trace began."""

    flow: Flow
    requested_at: datetime
    traceparent: str | None


class _StoredFlow(msgspec.Struct):
    source: str


async def read_assignment(link: BusLink, who: Identity, patience_seconds: float) -> Assignment:
    """Read what the session wants; a broker that is away is waited for, as long as a caller would.

    Raises AssignmentFailed, InvalidFlow.
    """
    try:
        async with asyncio.timeout(patience_seconds):
            envelope = await _patiently(link, who)
            request = open_event(envelope)
            if not isinstance(request, SessionRequested):
                raise AssignmentFailed(f"{envelope.id} is a {envelope.type}, not a request")
            bus = await link.bus()
            source = await _source(bus, who.tenant, request.flow_id, request.flow_revision)
    except TimeoutError as error:
        raise AssignmentFailed(f"the broker did not answer within {patience_seconds:g} s") from error
    flow = load_flow(source, name=f"{request.flow_id}@{request.flow_revision}")
    traceparent = None if envelope.traceparent is UNSET else envelope.traceparent
    return Assignment(flow, envelope.time, traceparent)


async def _patiently(link: BusLink, who: Identity) -> Envelope:
    subject = event_subject(who.tenant, who.session_id, Family.SESSION)
    while True:
        bus = await link.bus()
        try:
            told = {e.type: e async for e in _envelopes(bus, subject)}
        except BusError as error:
            log.warning("job.waits_for_broker", error=str(error))
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            continue
        if SessionRequested.TYPE not in told:
            raise AssignmentFailed(f"nobody has requested session {who.session_id}")
        if told.keys() & TERMINAL_TYPES:
            raise AssignmentFailed(f"session {who.session_id} has ended before its agent came")
        return told[SessionRequested.TYPE]


async def _envelopes(bus: Bus, subject: str) -> AsyncIterator[Envelope]:
    async for incoming in bus.read(subject):
        yield decode(incoming.payload)


async def _source(bus: Bus, tenant: str, flow_id: str, revision: int) -> str:
    key = f"{tenant}.{flow_id}.{revision}"
    while True:
        try:
            bucket = await bus.bucket(FLOWS_BUCKET)
            stored = await bucket.get(key)
        except BusUnavailable as error:
            log.warning("job.waits_for_broker", error=str(error))
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            continue
        if stored is None:
            raise AssignmentFailed(f"flow {flow_id} has no revision {revision}")
        return msgspec.json.decode(stored, type=_StoredFlow).source
