"""The assignment of a job: the request of its session and the flow, both read from the bus."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from msgspec import UNSET

from antiphon.agent_worker.flow import Flow, load_flow
from antiphon.agent_worker.flow_store import read_revision
from antiphon.agent_worker.providers.table import CATALOG
from antiphon.chassis.bus import BusError, BusUnavailable
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.event import Family
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.contracts.subjects import event_subject
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

LONGEST_BACKOFF_SECONDS = 0.5  # a caller is waiting


class AssignmentFailed(Exception):
    """The job has no assignment."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The flow of a session, the time of its request, and the trace that it belongs to."""

    flow: Flow
    requested_at: datetime
    traceparent: str | None


async def read_assignment(link: BusLink, identity: Identity, timeout_seconds: float) -> Assignment:
    """Read the session's request and its flow, retrying while the broker is unavailable.

    Raises AssignmentFailed (also at the timeout) and InvalidFlow.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            envelope: Envelope = await _retrying(BusError)(_read_request, link, identity)
            request = open_event(envelope)
            if not isinstance(request, SessionRequested):
                raise AssignmentFailed(f"{envelope.id} is a {envelope.type}, not a request")
            flow_id, revision = request.flow_id, request.flow_revision
            source: str = await _retrying(BusUnavailable)(
                _read_flow, link, identity.tenant, flow_id, revision
            )
    except TimeoutError as error:
        raise AssignmentFailed(f"the broker did not answer within {timeout_seconds:g} s") from error
    # in a thread: the check of a large flow takes a while, and the room connects meanwhile
    flow = await asyncio.to_thread(load_flow, source, CATALOG, name=f"{flow_id}@{revision}")
    traceparent = None if envelope.traceparent is UNSET else envelope.traceparent
    return Assignment(flow, envelope.time, traceparent)


async def _read_request(link: BusLink, identity: Identity) -> Envelope:
    bus = await link.bus()
    subject = event_subject(identity.tenant, identity.session_id, Family.SESSION)
    envelopes = {}
    async for incoming in bus.read(subject):
        envelope = decode(incoming.payload)
        envelopes[envelope.type] = envelope
    if SessionRequested.TYPE not in envelopes:
        raise AssignmentFailed(f"session {identity.session_id} has not been requested")
    if envelopes.keys() & TERMINAL_TYPES:
        raise AssignmentFailed(f"session {identity.session_id} has already ended")
    return envelopes[SessionRequested.TYPE]


async def _read_flow(link: BusLink, tenant: str, flow_id: str, revision: int) -> str:
    source = await read_revision(await link.bus(), tenant, flow_id, revision)
    if source is None:
        raise AssignmentFailed(f"flow {flow_id} has no revision {revision}")
    return source


def _log_retry(error: BaseException, attempt: int) -> None:
    log.warning("job.broker_unavailable", error=str(error), attempt=attempt)


_retrying = partial(retrying, on_retry=_log_retry, longest_seconds=LONGEST_BACKOFF_SECONDS)
