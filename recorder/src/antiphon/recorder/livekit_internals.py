"""Everything the recorder uses of livekit-agents beyond its documented API, and what is lost without it.

`check` runs when a recording starts. Where a name is missing, the recorder leaves that part of the record out
and logs one warning; it never raises into the agent.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from livekit.agents import Agent, AgentSession, JobContext, __version__

from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

JOB_TASK = "job_task"  # LiveKit's name of the task that runs and ends a job


@dataclass(frozen=True, slots=True)
class Internal:
    """A name inside livekit-agents that the recorder relies on."""

    name: str
    used_for: str
    lost_without: str
    find: Callable[[JobContext], object]  # raises AttributeError or ImportError when it is missing


def _speech_context(_: JobContext) -> ContextVar[Any]:
    context: ContextVar[Any] = import_module("livekit.agents.voice.agent_activity")._SpeechHandleContextVar
    return context


def _identity(ctx: JobContext) -> str:
    return ctx._info.accept_arguments.identity


def _dispatch_times(ctx: JobContext) -> dict[str, float]:
    info = ctx._info
    return {
        "received_at": info.received_at,
        "accepted_at": info.accepted_at,
        "assigned_at": info.assigned_at,
        "launched_at": info.launched_at,
    }


def _synchronized_transcript(_: JobContext) -> object:
    synchronizer = import_module("livekit.agents.voice.transcription.synchronizer")
    used = {"_SyncedTextOutput": "_synchronizer", "TranscriptSynchronizer": "_impl"}
    for owner, attribute in used.items():
        if attribute not in getattr(synchronizer, owner).__init__.__code__.co_names:
            raise AttributeError(f"{owner} has no {attribute}")
    return synchronizer._SegmentSynchronizerImpl.synchronized_transcript


def _job_task(_: JobContext) -> str:
    start_job = import_module("livekit.agents.ipc.job_proc_lazy_main")._JobProc._start_job
    if JOB_TASK not in start_job.__code__.co_consts:
        raise AttributeError(f"no task is named {JOB_TASK}")
    return JOB_TASK


# From "emit" on they are public methods. The recorder replaces them on the object; that LiveKit looks them up
# there is not part of its API.
INTERNALS: dict[str, Internal] = {
    "speech": Internal(
        name="livekit.agents.voice.agent_activity._SpeechHandleContextVar",
        used_for="assigning messages and tool calls to the speech, and so to the turn, they belong to",
        lost_without="each answer belongs to the newest utterance, without its generated text",
        find=_speech_context,
    ),
    "heard": Internal(
        name="livekit.agents.voice.transcription.synchronizer: _SyncedTextOutput._synchronizer, "
        "TranscriptSynchronizer._impl, _SegmentSynchronizerImpl.synchronized_transcript",
        used_for="the text that was heard so far, in the turn of an agent that is killed while it speaks",
        lost_without="a turn completed after a crash lacks the text of the answer that was being spoken",
        find=_synchronized_transcript,
    ),
    "identity": Internal(
        name="livekit.agents.JobContext._info.accept_arguments",
        used_for="the agent's identity in agent.joined, before the room is connected",
        lost_without="agent.joined has LiveKit's default identity",
        find=_identity,
    ),
    "dispatch": Internal(
        name="livekit.agents.JobContext._info: received_at, accepted_at, assigned_at, launched_at",
        used_for="the dispatch timeline in agent.joined",
        lost_without="agent.joined has no dispatch timeline",
        find=_dispatch_times,
    ),
    "job_task": Internal(
        name=f"livekit.agents.ipc.job_proc_lazy_main: task {JOB_TASK!r}",
        used_for="distinguishing a session closed by the worker from one closed by the agent's code",
        lost_without="a worker's shutdown is recorded as agent_ended",
        find=_job_task,
    ),
    "emit": Internal(
        name="livekit.agents.AgentSession.emit",
        used_for="receiving every event of a session in the order of emission",
        lost_without="nothing of the conversation is recorded",
        find=lambda _: AgentSession.emit,
    ),
    "aclose": Internal(
        name="livekit.agents.AgentSession.aclose",
        used_for="distinguishing a session closed by the worker from one closed by the agent's code",
        lost_without="a worker's shutdown is recorded as agent_ended",
        find=lambda _: AgentSession.aclose,
    ),
    "shutdown": Internal(
        name="livekit.agents.JobContext.shutdown",
        used_for="detecting that the agent's code ends the job",
        lost_without="a job that its code ends without a session is recorded as worker_shutdown",
        find=lambda _: JobContext.shutdown,
    ),
    "api": Internal(
        name="livekit.agents.JobContext.api",
        used_for="distinguishing a room that the agent's code deletes from one that is ended by the API",
        lost_without="an agent that hangs up by deleting the room is recorded as ended_by_api",
        find=lambda _: JobContext.api,
    ),
    "llm_node": Internal(
        name="livekit.agents.Agent.llm_node",
        used_for="the text that a model generates; LiveKit keeps only the part that was spoken",
        lost_without="the generated text of a turn is only the part that was transcribed",
        find=lambda _: Agent.llm_node,
    ),
    "transcription_node": Internal(
        name="livekit.agents.Agent.transcription_node",
        used_for="the text given to session.say()",
        lost_without="the generated text of session.say() is only the part that was spoken",
        find=lambda _: Agent.transcription_node,
    ),
    "on_enter": Internal(
        name="livekit.agents.Agent.on_enter",
        used_for="keeping a turn open until the agent it was handed to has spoken",
        lost_without="what an agent says when it takes over is a turn of its own",
        find=lambda _: Agent.on_enter,
    ),
}

_warned: set[str] = set()


def available(key: str) -> bool:
    """Return whether this version of livekit-agents has one of the internals that need no job."""
    return _find(key, None) is not None


def check(ctx: JobContext) -> list[str]:
    """Return the keys of the internals that are missing; warn of them once per process."""
    missing = [key for key in INTERNALS if _find(key, ctx) is None]
    if not _warned.issuperset(missing):
        _warned.update(missing)
        losses = "; ".join(f"{INTERNALS[key].name} ({INTERNALS[key].lost_without})" for key in missing)
        log.warning("the record is incomplete with livekit-agents %s, which lacks: %s", __version__, losses)
    return missing


def current_speech() -> str | None:
    """Return the id of the speech that the running task serves; None if there is none or it is done."""
    handle = _speech_handle()
    return None if handle is None or handle.done() else str(handle.id)


def originating_speech() -> str | None:
    """Return the id of the speech during which the running task began, even if it is done."""
    handle = _speech_handle()
    return None if handle is None else str(handle.id)


def _speech_handle() -> Any:
    context = _find("speech", None)
    return None if context is None else context.get(None)


def transcript_segment(session: AgentSession[Any]) -> Any:
    """Return the part of the transcript that is spoken now, with `synchronized_transcript`.

    None if the transcript is not synchronised with audio.
    """
    if not available("heard"):
        return None
    synchronizer = getattr(session.output.transcription, "_synchronizer", None)
    if synchronizer is None or not synchronizer.enabled:
        return None
    return getattr(synchronizer, "_impl", None)


def in_job_task() -> bool:
    """Return whether LiveKit's own job task is running, and not the agent's code."""
    task = asyncio.current_task()
    return task is not None and task.get_name() == _find("job_task", None)


def agent_identity(ctx: JobContext) -> str:
    """Return the identity with which the job was accepted."""
    identity: str | None = _find("identity", ctx)
    return f"agent-{ctx.job.id}" if identity is None else identity  # LiveKit's default


def dispatch_times(ctx: JobContext) -> dict[str, float]:
    """Return when a job was received, accepted, assigned and launched, in unix seconds; 0.0 is unknown."""
    return _find("dispatch", ctx) or {}


def _find(key: str, ctx: JobContext | None) -> Any:
    try:
        return INTERNALS[key].find(ctx)  # type: ignore[arg-type] # only two of them use the job
    except (AttributeError, ImportError):
        return None
