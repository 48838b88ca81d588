"""The agent's first words, and the proof that somebody could hear them."""

import asyncio
from functools import partial
from typing import Any

import structlog
from livekit.agents import AgentSession, JobContext

from antiphon.recorder import Recording

log = structlog.get_logger(__name__)

CALLER = "caller"

_greetings: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks only weakly


class GreetingFailed(Exception):
    """The agent could not make itself heard."""


def greet_soon(ctx: JobContext, session: AgentSession[Any], recording: Recording, text: str) -> None:
    """Greet the caller when they come, while the job's entry point returns.

    A job that LiveKit ends waits fifteen seconds for an entry point that does not.
    """
    greeting = asyncio.create_task(_greet(ctx, session, recording, text), name="greeting")
    _greetings.add(greeting)
    greeting.add_done_callback(partial(_on_done, ctx, recording))


async def _greet(ctx: JobContext, session: AgentSession[Any], recording: Recording, text: str) -> None:
    try:
        await ctx.wait_for_participant(identity=CALLER)
    except RuntimeError:  # the room is gone, and LiveKit ends the job
        log.info("job.no_caller")
        return
    speech = session.say(text)
    await speech
    if not recording.is_ready and not speech.interrupted:
        raise GreetingFailed(recording.failure or "nothing of the greeting could be heard")
    recording.ready(text)


def _on_done(ctx: JobContext, recording: Recording, greeting: asyncio.Task[None]) -> None:
    _greetings.discard(greeting)
    error = None if greeting.cancelled() else greeting.exception()
    if isinstance(error, Exception):
        log.error("job.greeting_failed", error=str(error))
        recording.failed(error)
        ctx.shutdown("greeting failed")
