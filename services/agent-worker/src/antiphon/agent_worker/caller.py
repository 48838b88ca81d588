"""The caller among the participants of a room: whom the agent listens to and greets."""

import asyncio

from livekit import rtc
from livekit.agents import AgentSession, JobContext

from antiphon.agent_worker.supervisors import may_watch

CALLER = "caller"  # the identity in the tokens that session-api signs by default
UNSURE_SECONDS = 2.0  # for the participant `caller`, when another one came first

_CALLS = (rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD, rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR)
_PHONE = rtc.ParticipantKind.PARTICIPANT_KIND_SIP


async def link_caller(ctx: JobContext, session: AgentSession[None]) -> str:
    """Wait for the caller, make the session listen to them, and return their identity.

    That is the participant `caller`, or one who comes by telephone; after two seconds, anyone else who is
    neither an agent nor a supervisor. The session must have been started for `caller`, and goes back to them
    when they come later.
    Raises RuntimeError when the room is closed.
    """
    caller = await _find_caller(ctx)
    room_io = session.room_io
    if caller == CALLER:
        return caller
    room_io.set_participant(caller)

    def on_connected(participant: rtc.RemoteParticipant) -> None:
        if participant.identity == CALLER:
            room_io.set_participant(CALLER)

    ctx.room.on("participant_connected", on_connected)
    for participant in ctx.room.remote_participants.values():
        on_connected(participant)
    return caller


async def _find_caller(ctx: JobContext) -> str:
    while True:
        first = await ctx.wait_for_participant()  # of a kind that can call; agents are not
        if is_caller(first):
            return first.identity
        certain = await _wait_for_certain_caller(ctx)
        if certain is not None:
            return certain
        if not may_watch(first) and first.identity in ctx.room.remote_participants:
            return first.identity
        others = (p for p in ctx.room.remote_participants.values() if p.kind in _CALLS and not may_watch(p))
        if (other := next(others, None)) is not None:
            return other.identity


async def _wait_for_certain_caller(ctx: JobContext) -> str | None:
    waits = (ctx.wait_for_participant(identity=CALLER), ctx.wait_for_participant(kind=_PHONE))
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=UNSURE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return next((task.result().identity for task in done), None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_caller(participant: rtc.RemoteParticipant) -> bool:
    """Return whether the participant is certainly the caller, not an observer."""
    return participant.identity == CALLER or participant.kind == _PHONE
