"""A LiveKit job: the functions that AgentServer calls, in the order in which it calls them."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Collection
from functools import partial
from multiprocessing.util import Finalize

import structlog
from livekit.agents import CloseEvent, JobContext, JobProcess, JobRequest
from livekit.agents.voice.room_io import RoomOptions, TextInputOptions

from antiphon.agent_worker.agent_deadlines import keep_deadlines_of_agents
from antiphon.agent_worker.agents import entry_agent
from antiphon.agent_worker.answered import answered
from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.assignment import Assignment, FlowNotLoaded, loading, read_assignment
from antiphon.agent_worker.call import Call, speak
from antiphon.agent_worker.caller import CALLER, link_caller
from antiphon.agent_worker.chat_text import hear_text
from antiphon.agent_worker.flow import InvalidFlow
from antiphon.agent_worker.job_metrics import Reporter
from antiphon.agent_worker.keyed_server import export_keys, forget_keys_of_files
from antiphon.agent_worker.livekit_spans import trace_livekit
from antiphon.agent_worker.providers.loaded import OFFLINE_PROVIDERS, Named, import_plugins, prewarm
from antiphon.agent_worker.providers.voices import session_options, voice_of_agent
from antiphon.agent_worker.push_to_talk import take_turns_by_hand
from antiphon.agent_worker.settings import SERVICE, AgentSettings
from antiphon.agent_worker.silence import prompt_on_silence
from antiphon.agent_worker.supervisors import tell_supervisors
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.agent_worker.transfers import SipTelephone
from antiphon.agent_worker.unheard_caller import UnheardCaller
from antiphon.chassis import telemetry, tracing
from antiphon.chassis.logs import bind_process
from antiphon.chassis.settings import load
from antiphon.contracts.events.session import FailureReason
from antiphon.recorder import Recording, record, recording_of
from antiphon.recorder.identity import identity_of

log = structlog.get_logger(__name__)

TRANSCRIPT_TIMEOUT_SECONDS = 1.0  # for the last transcript when the session closes
DELETE_ROOM_SECONDS = 5.0
REPORTER = "metrics reporter"  # in the userdata of a process

_greetings: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references to tasks


class GreetingFailed(Exception):
    """No audio of the greeting reached the room."""


def prewarm_process(
    process: JobProcess, providers: Collection[Named] = OFFLINE_PROVIDERS, metrics_path: str | None = None
) -> None:
    """Set up an idle process: logs and traces, signals, the providers of flows. LiveKit's `setup_fnc`."""
    forget_keys_of_files(os.environ)
    telemetry.configure(SERVICE, load(AgentSettings), push_metrics=False)
    trace_livekit()
    Finalize(None, telemetry.flush, exitpriority=1)  # a job process runs no atexit handlers
    if threading.current_thread() is threading.main_thread():
        # LiveKit ignores SIGTERM only under spawn; under a forkserver, a signal to the group would end calls
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if metrics_path is not None:
            process.userdata[REPORTER] = Reporter(metrics_path, os.getpid())
    prewarm(process.userdata, providers)
    gc.collect()
    gc.freeze()  # collections during a call skip what is loaded now


async def on_request(request: JobRequest, *, deployment: str) -> None:
    """Accept the job at once: LiveKit waits less than three seconds. A second agent replaces the first.

    A job of another deployment, whose agents have the same name on the same LiveKit server, is left to them.
    """
    identity = identity_of(request)
    if identity.deployment not in (None, deployment):
        log.info("job.of_another_deployment", job=request.id, deployment=identity.deployment)
        await request.reject(terminate=False)
        return
    await request.accept(identity=f"agent-{identity.session_id}", name="agent")


async def entry(ctx: JobContext) -> None:
    """Join the room, read the assignment and start the session, which continues after the return."""
    settings = load(AgentSettings)
    export_keys(settings, os.environ)
    if (reporter := ctx.proc.userdata.get(REPORTER)) is not None:
        reporter.start()
    identity = identity_of(ctx)
    bind_process(session_id=identity.session_id, job_id=ctx.job.id)
    async with record(ctx, settings=settings.recorder, adopt_orphans=False) as recording:
        if recording.refused is not None:
            ctx.shutdown(recording.refused)
            return
        connecting = asyncio.create_task(ctx.connect(), name="connect")
        try:
            try:
                assignment = await read_assignment(
                    recording.link, identity, settings.assignment_timeout_seconds
                )
            finally:
                await connecting  # also after an error, so that no connection is left half open
            with tracing.continue_from(assignment.traceparent):
                recording.set_request(assignment.requested_at, tracing.current_traceparent())
                with tracing.span("agent.answer"), loading(assignment.name):
                    await _start_session(ctx, recording, assignment)
        except (InvalidFlow, FlowNotLoaded) as error:
            log.error("job.flow_not_loaded", error=str(error))  # noqa: TRY400 - the message says it all
            recording.failed(error, FailureReason.FLOW_NOT_LOADED)
            ctx.shutdown("the flow was not loaded")


async def _start_session(ctx: JobContext, recording: Recording, assignment: Assignment) -> None:
    tools = SessionTools(assignment.bound)  # its MCP servers start while the session does
    ctx.add_shutdown_callback(tools.close)
    bound = tools.bound
    flow = bound.flow
    greeting_text = bound.greeting_of(flow.first) or ""
    import_plugins(flow)  # nothing to do, unless the flow is newer than the worker
    options = await asyncio.to_thread(session_options, bound, ctx.proc.userdata)
    session = ApologisingSession(
        bound,
        **options,
        max_tool_steps=flow.limits.tool_calls,
        session_close_transcript_timeout=TRANSCRIPT_TIMEOUT_SECONDS,
    )
    recording.attach(session, greeting=greeting_text)
    flow_events = tell_supervisors(ctx.room, recording, identity_of(ctx))

    async def stop_telling() -> None:
        await flow_events.close()

    ctx.add_shutdown_callback(stop_telling)
    userdata = ctx.proc.userdata
    voice = partial(voice_of_agent, userdata=userdata)
    call = Call(bound, voice, recording, SipTelephone(session, ctx.room, lambda: ctx.api.sip))
    if flow.silence is not None:
        prompt_on_silence(session, flow.silence, bound.text(flow.silence.say))

    keep_deadlines_of_agents(session, bound)
    UnheardCaller(session)

    def end_job(event: CloseEvent) -> None:
        ctx.shutdown(f"session closed: {event.reason.value}")  # else the job runs until the room is closed

    session.on("close", end_job)
    await session.start(
        entry_agent(call),
        room=ctx.room,
        room_options=RoomOptions(participant_identity=CALLER, text_input=TextInputOptions(hear_text)),
        session_host=False,  # it publishes the agent's instructions to the whole room
        record=False,
    )
    if flow.turns.detection == "manual":
        take_turns_by_hand(ctx.room, session)
    # in a task: when LiveKit ends a job, it waits up to fifteen seconds for an entry point that is running
    greeting = asyncio.create_task(_greet(ctx, session, recording, call), name="greeting")
    _greetings.add(greeting)
    greeting.add_done_callback(partial(_on_greeting_done, ctx, recording))


async def _greet(ctx: JobContext, session: ApologisingSession, recording: Recording, call: Call) -> None:
    """Wait for the caller, speak the greeting, and check that it was audible."""
    try:
        await link_caller(ctx, session)
    except RuntimeError:  # the room is closed, and LiveKit ends the job
        log.info("job.no_caller")
        return
    answered(call, session, ctx.room)
    text = call.bound.greeting_of(call.bound.flow.first)
    if text is None:  # only a realtime model may be without: it listens first
        recording.ready("")
        return
    speech = speak(session, text)
    await speech
    if not recording.is_ready and not speech.interrupted:
        await session.give_up()
        raise GreetingFailed(recording.failure or "the greeting was not audible")
    recording.ready(text)


def _on_greeting_done(ctx: JobContext, recording: Recording, greeting: asyncio.Task[None]) -> None:
    _greetings.discard(greeting)
    error = None if greeting.cancelled() else greeting.exception()
    if isinstance(error, Exception):
        log.error("job.greeting_failed", error=type(error).__name__, pii_error=str(error))
        recording.failed(error)
        ctx.shutdown("greeting failed")


async def on_session_end(ctx: JobContext) -> None:
    """Finish the recording while the room is still open, then delete the room."""
    recording = recording_of(ctx)
    if recording is None:
        return
    await recording.finish()
    if recording.session_continues or recording.closes_room:
        return  # the room belongs to another agent, or the recorder deletes it: twice would open it once more
    try:
        async with asyncio.timeout(DELETE_ROOM_SECONDS):
            await ctx.delete_room(ctx.job.room.name)
    except TimeoutError:
        log.warning("job.delete_room_timeout", room=ctx.job.room.name)
