"""The first event of every job, with LiveKit's own account of how the job came to be."""

from datetime import UTC, datetime

from livekit.agents import JobContext

from antiphon.contracts.events.agent import AgentJoined

COLD_START_SECONDS = 0.25  # a job that waited longer for its process had one made for it


def agent_joined(ctx: JobContext) -> AgentJoined:
    """Describe a job: who serves, and LiveKit's dispatch timeline."""
    info = ctx._info
    waited = info.launched_at - info.assigned_at if info.assigned_at else 0.0
    return AgentJoined(
        job_id=ctx.job.id,
        worker_id=ctx.worker_id,
        epoch=ctx.job.id,
        identity=info.accept_arguments.identity,
        received_at=_moment(info.received_at),
        accepted_at=_moment(info.accepted_at),
        assigned_at=_moment(info.assigned_at),
        launched_at=_moment(info.launched_at),
        cold_start=waited > COLD_START_SECONDS,
    )


def _moment(unix_seconds: float) -> datetime | None:
    return datetime.fromtimestamp(unix_seconds, UTC) if unix_seconds else None
