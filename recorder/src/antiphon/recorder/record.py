"""Record any LiveKit agent: `async with record(ctx, session)`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from livekit.agents import AgentSession, JobContext

from antiphon.chassis.bus import Bus
from antiphon.recorder.identity import identity_of
from antiphon.recorder.outbox import BusLink, Orphans, Outbox
from antiphon.recorder.recording import Recording
from antiphon.recorder.settings import RecorderSettings

_recordings: dict[str, Recording] = {}  # by job id: `on_session_end` gets only the job


@asynccontextmanager
async def record(
    ctx: JobContext,
    session: AgentSession[Any] | None = None,
    *,
    settings: RecorderSettings | None = None,
    adopt_orphans: bool = True,
) -> AsyncIterator[Recording]:
    """Record a job and its session to their end; enter the block before the session starts.

    Recording continues after the block. An exception that leaves the block is recorded as the job's failure.
    Journals left on this machine by killed jobs are published too, unless `adopt_orphans` is False.
    Settings are read from the environment by default. Raises ValueError for a wrong variable.
    """
    settings = settings or RecorderSettings.from_env()
    link = BusLink(partial(Bus.connect, settings.nats_url, name=f"recorder {ctx.job.id}"))
    identity = identity_of(ctx)
    outbox = Outbox(settings.journal_dir, link, job_id=ctx.job.id)
    writer = outbox.writer(identity.session_id, identity.tenant)
    recording = _recordings[ctx.job.id] = Recording(ctx, outbox, writer, link)
    recording.start()
    if session is not None:
        recording.attach(session)
    orphans = Orphans(settings.journal_dir, link)
    adopting = asyncio.create_task(orphans.adopt_all(), name="orphans") if adopt_orphans else None

    async def finish() -> None:
        await recording.finish()
        _recordings.pop(ctx.job.id, None)
        if adopting is not None:
            adopting.cancel()
        await link.close()

    ctx.add_shutdown_callback(finish)
    try:
        yield recording
    except Exception as error:
        recording.guard.wrap("failed", recording.failed)(error)
        raise


def recording_of(ctx: JobContext) -> Recording | None:
    """Return the recording of a job, for `on_session_end`."""
    return _recordings.get(ctx.job.id)
