"""The session that a job serves, and the first events of the job."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from livekit.agents import JobContext, JobRequest

from antiphon.contracts.deployment import is_deployment_id
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.ids import DEFAULT_TENANT, adopted_session_id, is_session_id, is_tenant
from antiphon.recorder.livekit_internals import agent_identity, dispatch_times

COLD_START_SECONDS = 0.25  # a job that waited longer had its process started for it
METADATA_LIMIT = 64 * 1024  # characters; that of session-api has about a hundred


@dataclass(frozen=True, slots=True)
class Identity:
    """A session and its tenant.

    `requested` tells whether a client requested the session: its id is in the metadata of job or room.
    `room_sid` is that of the room from which the id is derived; then it is the id of the room's first call.
    `deployment` is the id of the one that dispatched the job, if the metadata of job or room names it beside
    a session: alone, it is a word of the application.
    `problem` says what was wrong with that metadata, if anything was.
    """

    session_id: str
    tenant: str
    requested: bool = False
    room_sid: str | None = None
    problem: str | None = None
    deployment: str | None = None


class _Metadata(msgspec.Struct):
    session_id: Any = None
    tenant: Any = None
    deployment: Any = None


_metadata = msgspec.json.Decoder(_Metadata)


def identity_of(
    ctx: JobContext | JobRequest, *, default_tenant: str = DEFAULT_TENANT, tenant: str | None = None
) -> Identity:
    """Return the session of a job; never raises, whatever the metadata is.

    The first of: the id in the metadata of the job, then of the room; the room's name if it is a session id;
    an id derived from tenant and room sid, so that several agents in a room write to the same session.
    `tenant` overrides the tenant in the metadata.
    """
    room = ctx.job.room
    sources = [_decoded(ctx.job.metadata), _decoded(room.metadata)]
    owner, problem = _tenant(sources, default_tenant) if tenant is None else (tenant, None)
    deployments = (m.deployment for m in sources if _names_session(m))
    deployment = next(filter(is_deployment_id, deployments), None)
    for metadata in sources:
        if _names_session(metadata):
            return Identity(
                metadata.session_id, owner, requested=True, problem=problem, deployment=deployment
            )
        if metadata.session_id is not None:
            problem = problem or "the session_id in the dispatch metadata is not the id of a session"
    if is_session_id(room.name):
        return Identity(room.name, owner, problem=problem, deployment=deployment)
    sid = room.sid or room.name
    session_id = adopted_session_id(owner, sid)
    return Identity(session_id, owner, room_sid=sid, problem=problem, deployment=deployment)


def _names_session(metadata: _Metadata) -> bool:
    return isinstance(metadata.session_id, str) and is_session_id(metadata.session_id)


def _tenant(sources: list[_Metadata], default: str) -> tuple[str, str | None]:
    for metadata in sources:
        if is_tenant(metadata.tenant):
            return str(metadata.tenant), None
        if metadata.tenant is not None:
            return (
                default,
                f"the tenant in the dispatch metadata is not one; the record belongs to {default!r}",
            )
    return default, None


def _decoded(metadata: str) -> _Metadata:
    if not metadata or len(metadata) > METADATA_LIMIT:
        return _Metadata()
    try:
        return _metadata.decode(metadata)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # not written by session-api
        return _Metadata()


def agent_joined(ctx: JobContext, epoch: str) -> AgentJoined:
    """Return the first event of a job: which worker serves it, and LiveKit's dispatch timeline."""
    times = dispatch_times(ctx)
    assigned_at = times.get("assigned_at")
    waited = times["launched_at"] - assigned_at if assigned_at else 0.0
    return AgentJoined(
        job_id=ctx.job.id,
        worker_id=ctx.worker_id,
        epoch=epoch,
        identity=agent_identity(ctx),
        cold_start=waited > COLD_START_SECONDS,
        **{name: datetime.fromtimestamp(at, UTC) for name, at in times.items() if at},
    )
