"""Record any LiveKit agent: `async with record(ctx, session)`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from livekit.agents import AgentSession, JobContext

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.metrics.opentelemetry import bridge
from antiphon.contracts.ids import is_session_id, is_tenant
from antiphon.recorder.admission import refusal_of, refuse
from antiphon.recorder.adoption import session_adopted
from antiphon.recorder.fallback import usable_settings
from antiphon.recorder.identity import Identity, identity_of
from antiphon.recorder.job import JobRecorder
from antiphon.recorder.recording import Recording
from antiphon.recorder.settings import RecorderSettings

log = get_logger(__name__)

_jobs: dict[str, JobRecorder] = {}  # by job id: `on_session_end` gets only the job


@asynccontextmanager
async def record(
    ctx: JobContext,
    session: AgentSession[Any] | None = None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    language: str | None = None,
    metadata: dict[str, Any] | None = None,
    tenant: str | None = None,
    notify_room: bool = True,
    settings: RecorderSettings | None = None,
    adopt_orphans: bool = True,
) -> AsyncIterator[Recording]:
    """Record a job and its session to their end; enter the block before the session starts.

    Recording continues after the block. An exception that leaves the block is recorded as the job's failure.
    `session_id` and `tenant` override what the dispatch metadata says. `user_id`, `language` and `metadata`
    describe a session that no client requested. Without `notify_room`, no message is sent to the room.
    Journals left on this machine by killed jobs are published too, unless `adopt_orphans` is False.
    Several sessions of one job can be recorded, one AgentSession after the other too, even of a session that
    has ended; the settings of the first call hold for all of them.

    `refused` of the recording tells why nothing is recorded: the job is of another deployment, or its room
    was made again after the end of its session. Such a room is deleted and the job shut down; `ctx.connect`,
    and with it the start of an AgentSession, raises SessionEnded. The limits of a requested session are
    enforced (ANTIPHON_ENFORCE_LIMITS).

    Raises ValueError for a `session_id` or `tenant` argument that is not one, and nothing else: without a
    broker, a journal folder or a valid variable in the environment, it logs that and the agent goes on.
    """
    if session_id is not None and not is_session_id(session_id):
        raise ValueError(
            f"session_id {session_id!r} is not one: named_session_id(tenant, name) makes one of any name"
        )
    if tenant is not None and not is_tenant(tenant):
        raise ValueError(f"tenant {tenant!r} is not at most 63 of a-z, 0-9 and -")
    job = _jobs.get(ctx.job.id) or _start_job(ctx, settings)
    identity = _identity(ctx, job.settings.tenant, session_id, tenant)
    # a job that has recorded the session is in its room, however often it was ended
    known = job.has_recorded(identity.session_id)
    refusal = None if known else await refusal_of(job.link, identity, ctx.job.room)
    described = session_adopted(ctx, user_id=user_id, language=language, metadata=metadata)
    recording = job.recording(
        await job.session_of(identity),
        identity.tenant,
        adopted=None if identity.requested else described,
        notify_room=notify_room,
        refused=None if refusal is None else refusal.reason,
    )
    if refusal is not None:
        await refuse(ctx, recording.session_id, refusal)
    if session is not None:
        recording.attach(session)
    if adopt_orphans:
        job.adopt_orphans()
    try:
        yield recording
    except Exception as error:
        recording.guard.wrap("failed", recording.failed)(error)
        raise


def recording_of(ctx: JobContext) -> Recording | None:
    """Return the newest recording of a job, for `on_session_end`."""
    job = _jobs.get(ctx.job.id)
    return job.recordings[-1] if job is not None and job.recordings else None


def _start_job(ctx: JobContext, settings: RecorderSettings | None) -> JobRecorder:
    usable, publishes = (settings, True) if settings is not None else usable_settings()
    bridge()  # a meter provider of the agent, if it has one, sees what is recorded
    job = _jobs[ctx.job.id] = JobRecorder(ctx, usable, publishes=publishes)

    async def close() -> None:
        try:
            await job.close()
        finally:
            _jobs.pop(ctx.job.id, None)

    ctx.add_shutdown_callback(close)
    return job


def _identity(ctx: JobContext, default_tenant: str, session_id: str | None, tenant: str | None) -> Identity:
    found = identity_of(ctx, default_tenant=default_tenant, tenant=tenant)
    if found.problem is not None and not (session_id and tenant):
        log.warning(
            "recorder.metadata_ignored", extra={"problem": found.problem, "session_id": found.session_id}
        )
    if session_id is None or session_id == found.session_id:
        return found
    return Identity(session_id, found.tenant)
