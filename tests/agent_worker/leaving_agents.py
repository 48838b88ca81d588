"""Recorded agents that leave their room in different ways; the dispatch metadata says which."""

import asyncio
import json

from livekit import api, rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, RunContext, function_tool
from livekit.agents.voice.room_io import RoomOptions
from tests.agent_worker.recorded_agent import serve
from tests.fixtures.echo_llm import EchoLLM

from antiphon.recorder import record

TOOLS = ("hang_up", "delete_room")
OPTIONS = RoomOptions(audio_input=False, audio_output=False, close_on_disconnect=False)

server = AgentServer(port=0, host="127.0.0.1", num_idle_processes=2, load_fnc=lambda: 0.0)


class Host(Agent):
    """An agent with the usual ways to hang up."""

    def __init__(self, ctx: JobContext) -> None:
        super().__init__(instructions="")
        self._ctx = ctx

    @function_tool
    async def hang_up(self, context: RunContext[None]) -> str:
        """Delete the room, as LiveKit's documentation does."""
        await self._ctx.api.room.delete_room(api.DeleteRoomRequest(room=self._ctx.room.name))
        return "done"

    @function_tool
    async def delete_room(self, context: RunContext[None]) -> str:
        """Delete the room by the job's own method."""
        await self._ctx.delete_room()
        return "done"


@server.rtc_session(agent_name="leaver")
async def entry(ctx: JobContext) -> None:
    way = json.loads(ctx.job.metadata).get("way", "called")
    if way == "twice":
        await twice(ctx)
        return
    session: AgentSession[None] = AgentSession(
        vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"}
    )
    called = asyncio.Event()
    other_left = asyncio.Event()
    ctx.room.on("data_received", lambda packet: called.set() if packet.topic == "leave" else None)

    def on_left(participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            other_left.set()

    ctx.room.on("participant_disconnected", on_left)
    async with record(ctx, session):
        await session.start(Host(ctx), room=ctx.room, room_options=OPTIONS)
        await ctx.wait_for_participant()
        await session.run(user_input="hello")
        if way in TOOLS:
            await session.run(user_input=f"{way}({{}})")
            return
        if way == "limited":
            session.on("close", lambda _: ctx.shutdown())
            return
        if way == "last":
            await other_left.wait()
            await session.run(user_input="good bye")
        elif way != "once":
            await called.wait()
        session.shutdown()
        ctx.shutdown()


async def twice(ctx: JobContext) -> None:
    """Record two sessions of LiveKit, one after the other, as one session."""
    for line in ("your consent", "your order"):
        session: AgentSession[None] = AgentSession(
            vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"}
        )
        async with record(ctx, session):
            await session.start(Host(ctx), room=ctx.room, room_options=OPTIONS)
            await ctx.wait_for_participant()
            await session.run(user_input=line)
            await session.aclose()


if __name__ == "__main__":
    asyncio.run(serve(server))
