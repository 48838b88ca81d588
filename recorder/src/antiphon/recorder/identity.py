"""The session that a job serves, and the first event of the job."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from livekit.agents import JobContext, JobRequest

from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.ids import session_id_for_key
from antiphon.recorder.livekit_internals import agent_identity, dispatch_times

DEFAULT_TENANT = "default"
COLD_START_SECONDS = 0.25  # a job that waited longer had its process started for it

_SESSION_ID = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A session and its tenant."""

    session_id: str
    tenant: str


class _Metadata(msgspec.Struct):
    session_id: str = ""
    tenant: str = DEFAULT_TENANT


def identity_of(ctx: JobContext | JobRequest) -> Identity:
    """Return the session of a job, from the dispatch metadata that session-api writes.

    For other rooms: the room's name if it is a session id, else an id derived from the room's sid, so that
    several agents in a room write to the same session.
    """
    try:
        metadata = msgspec.json.decode(ctx.job.metadata or "{}", type=_Metadata)
    except msgspec.DecodeError:  # not written by session-api
        metadata = _Metadata()
    for candidate in (metadata.session_id, ctx.job.room.name):
        if _SESSION_ID.fullmatch(candidate):
            return Identity(candidate, metadata.tenant)
    room = ctx.job.room.sid or ctx.job.room.name
    return Identity(session_id_for_key(metadata.tenant, f"room:{room}"), metadata.tenant)


def agent_joined(ctx: JobContext) -> AgentJoined:
    """Return the first event of a job: which worker serves it, and LiveKit's dispatch timeline."""
    times = dispatch_times(ctx)
    assigned_at = times.get("assigned_at")
    waited = times["launched_at"] - assigned_at if assigned_at else 0.0
    return AgentJoined(
        job_id=ctx.job.id,
        worker_id=ctx.worker_id,
        epoch=ctx.job.id,
        identity=agent_identity(ctx),
        cold_start=waited > COLD_START_SECONDS,
        **{name: datetime.fromtimestamp(at, UTC) for name, at in times.items() if at},
    )
