"""A LiveKit agent that uses the recorder in two lines."""

import asyncio
import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext
from livekit.agents.voice.room_io import RoomOptions
from tests.fixtures.echo_llm import EchoLLM

from antiphon.chassis.health import Health, serve_health
from antiphon.recorder import record  # the first

TEXT_ONLY = RoomOptions(audio_input=False, audio_output=False)

server = AgentServer(port=0, host="127.0.0.1", num_idle_processes=1, load_fnc=lambda: 0.0)


@server.rtc_session(agent_name="echo")
async def entry(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(
        vad=None, llm=EchoLLM(), turn_handling={"turn_detection": "manual"}
    )
    async with record(ctx, session):  # the second
        await session.start(Agent(instructions=""), room=ctx.room, room_options=TEXT_ONLY)
        await ctx.wait_for_participant()
        await session.run(user_input="hello")
        await session.run(user_input="good bye")
        session.shutdown()
        ctx.shutdown()


async def serve(server: AgentServer) -> None:
    """Run the agents of a server, with a health route."""
    registered = asyncio.Event()
    server.on("worker_registered", lambda *_: registered.set())
    health = Health({"livekit": registered.wait})
    port = int(os.environ["ANTIPHON_AGENT_HEALTH_PORT"])
    await asyncio.gather(server.run(), serve_health(health, "127.0.0.1", port, asyncio.Event()))


if __name__ == "__main__":
    asyncio.run(serve(server))
