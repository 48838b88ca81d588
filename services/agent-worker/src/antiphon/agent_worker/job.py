"""One job: an agent in a room, from the dispatch to the end of the call."""

import asyncio
import gc

import structlog
from livekit.agents import AgentSession, CloseEvent, JobContext, JobProcess, JobRequest
from livekit.agents.voice.room_io import RoomOptions

from antiphon.agent_worker.assignment import Assignment, read_assignment
from antiphon.agent_worker.flow import build_entry_agent
from antiphon.agent_worker.flow.silence import attach as attach_silence
from antiphon.agent_worker.greeting import CALLER, greet_soon
from antiphon.agent_worker.process import prepare_job_process
from antiphon.agent_worker.providers import build_voice, prewarm
from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis import telemetry
from antiphon.chassis.settings import load
from antiphon.recorder import Recording, record, recording_of
from antiphon.recorder.identity import identity_of

log = structlog.get_logger(__name__)

LAST_WORDS_SECONDS = 1.0  # for the transcript of what was said just before the end
DELETE_ROOM_SECONDS = 5.0


async def on_request(request: JobRequest) -> None:
    """Accept at once, as LiveKit waits less than three seconds; a second agent replaces the first."""
    session_id = identity_of(request).session_id
    await request.accept(identity=f"agent-{session_id}", name="agent")


def prewarm_process(process: JobProcess) -> None:
    """Prepare an idle process for whatever call it will get."""
    prepare_job_process(load(AgentSettings))
    prewarm(process.userdata)
    gc.collect()
    gc.freeze()  # what is loaded now stays: a collection in the middle of a call need not look at it


async def entry(ctx: JobContext) -> None:
    """Serve the session: join, find the flow, start; the call goes on when this returns."""
    settings = load(AgentSettings)
    who = identity_of(ctx)
    structlog.contextvars.bind_contextvars(session=who.session_id, job=ctx.job.id)
    async with record(ctx, settings=settings.recorder, adopt_orphans=False) as recording:
        connecting = asyncio.create_task(ctx.connect(), name="connect")
        try:
            assignment = await read_assignment(recording.link, who, settings.patience_seconds)
        finally:
            await connecting  # whatever comes, it is not left half way
        recording.set_request(assignment.requested_at, assignment.traceparent)
        with telemetry.continue_from(assignment.traceparent), telemetry.span("agent.answer"):
            await _answer(ctx, recording, assignment)


async def _answer(ctx: JobContext, recording: Recording, assignment: Assignment) -> None:
    flow = assignment.flow
    voice = build_voice(flow, ctx.proc.userdata)
    session: AgentSession[None] = AgentSession(**voice, session_close_transcript_timeout=LAST_WORDS_SECONDS)
    recording.attach(session, greeting=flow.greeting)
    attach_silence(session, flow)

    def end_job(event: CloseEvent) -> None:
        ctx.shutdown(f"session closed: {event.reason.value}")  # else the job idles until the room is given up

    session.on("close", end_job)
    await session.start(
        build_entry_agent(flow),
        room=ctx.room,
        room_options=RoomOptions(participant_identity=CALLER),
        session_host=False,  # it would tell everyone in the room the agent's instructions
        record=False,
    )
    greet_soon(ctx, session, recording, flow.greeting)


async def on_session_end(ctx: JobContext) -> None:
    """Close the record while the room still stands, then close the room: nobody stays in a silent one."""
    recording = recording_of(ctx)
    if recording is None:
        return
    await recording.finish()
    if recording.replaced:
        return  # the room is a newer agent's now
    try:
        async with asyncio.timeout(DELETE_ROOM_SECONDS):
            await ctx.delete_room(ctx.job.room.name)
    except TimeoutError:
        log.warning("job.room_not_deleted", room=ctx.job.room.name)
