"""The assignment of a job: the request of its session and the flow, both read from the bus."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog
from msgspec import UNSET

from antiphon.agent_worker.catalog import CATALOG, CATALOG_OVER_HTTP
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.variables import MissingVariable
from antiphon.agent_worker.flow_store import read_draft, read_revision
from antiphon.agent_worker.providers.entry import ProviderProblem
from antiphon.chassis.bus import BusError, BusUnavailable
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.event import Family
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.flows import FlowRevision, InvalidRecord
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.contracts.subjects import event_subject
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

LONGEST_BACKOFF_SECONDS = 0.5  # a caller is waiting
BEHIND_SECONDS = 2.0  # for a replica of the broker to have a flow that its leader has


class AssignmentFailed(Exception):
    """The job has no assignment."""


class FlowNotLoaded(AssignmentFailed):
    """The flow of the session cannot run on this worker; the message names its revision."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The flow of a session with its revision, the time of its request, and the trace that it belongs to."""

    name: str  # as booking@3
    bound: BoundFlow
    requested_at: datetime
    traceparent: str | None


async def read_assignment(link: BusLink, identity: Identity, timeout_seconds: float) -> Assignment:
    """Read the session's request and its flow, retrying while the broker is unavailable.

    Raises AssignmentFailed (also at the timeout), FlowNotLoaded and InvalidFlow.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            envelope: Envelope = await _retrying(BusError)(_read_request, link, identity)
            request = open_event(envelope)
            if not isinstance(request, SessionRequested):
                raise AssignmentFailed(f"{envelope.id} is a {envelope.type}, not a request")
            revision: FlowRevision = await _retrying(BusUnavailable)(
                _read_flow, link, identity.tenant, request
            )
    except TimeoutError as error:
        raise AssignmentFailed(f"the broker did not answer within {timeout_seconds:g} s") from error
    name = f"{request.flow_id}@{request.flow_revision or 'draft'}"
    try:
        # in a thread: the check of a large flow takes a while, and the room connects meanwhile
        async with asyncio.timeout(timeout_seconds):
            bound = await asyncio.to_thread(_bound, revision, name, request)
    except TimeoutError as error:  # the import of a tool can hang
        raise FlowNotLoaded(f"{name}: it was not loaded within {timeout_seconds:g} s") from error
    traceparent = None if envelope.traceparent is UNSET else envelope.traceparent
    return Assignment(name, bound, envelope.time, traceparent)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Load more of a flow than its file: its providers and tools. Raises FlowNotLoaded."""
    try:
        yield
    except (ProviderProblem, ToolProblem) as problem:
        raise FlowNotLoaded(f"{name}: {problem}") from problem


def _bound(revision: FlowRevision, name: str, request: SessionRequested) -> BoundFlow:
    catalog = CATALOG if revision.origin == "files" else CATALOG_OVER_HTTP
    try:
        flow = load_flow(revision.source, catalog, name=name)
        return bind(flow, catalog, metadata=request.metadata, variables=request.variables)
    except MissingVariable as error:
        raise FlowNotLoaded(f"{name}: {error}") from error


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


class _NotThereYet(Exception):
    """The replica of the broker that answered has no such flow: it may be behind the others."""


async def _read_flow(link: BusLink, tenant: str, request: SessionRequested) -> FlowRevision:
    bus = await link.bus()
    flow_id, number, draft = request.flow_id, request.flow_revision, request.flow_draft

    async def read() -> FlowRevision:
        if draft is None:
            found = await read_revision(bus, tenant, flow_id, number)
        else:
            found = await read_draft(bus, tenant, flow_id, draft)
        if found is None:
            raise _NotThereYet
        return found

    try:
        return await retrying(_NotThereYet, timeout_seconds=BEHIND_SECONDS)(read)
    except InvalidRecord as error:
        raise FlowNotLoaded(f"flow {flow_id}: its {_version(request)} is damaged: {error}") from error
    except _NotThereYet as error:
        kept = " any more" if draft is not None else ""
        raise FlowNotLoaded(f"flow {flow_id} has no {_version(request)}{kept}") from error


def _version(request: SessionRequested) -> str:
    return f"revision {request.flow_revision}" if request.flow_draft is None else "draft"


def _log_retry(error: BaseException, attempt: int) -> None:
    log.warning("job.broker_unavailable", error=str(error), attempt=attempt)


_retrying = partial(retrying, on_retry=_log_retry, longest_seconds=LONGEST_BACKOFF_SECONDS)
