"""A plain LiveKit agent with the parts of ours, without a platform: the baseline of the benchmark `turns`."""

import asyncio
import json
import logging
import math
import os
from functools import partial
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, stt, vad
from livekit.agents.voice.room_io import RoomOptions
from livekit.plugins import deepgram, openai, silero
from tests.benchmarks.turns_cases import SECRET

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow.phrase import PhraseMatcher, to_grammar
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.sphinx import Recogniser
from antiphon.agent_worker.providers.sphinx_stt import SphinxSTT
from antiphon.agent_worker.push_to_talk import TAIL_SECONDS
from antiphon.agent_worker.turn_handling import turn_handling

NAME = "plain"
STT: dict[str, Any] = {"deepgram": deepgram.STT, "deepgram-flux": deepgram.STTv2}


def prewarm(process: JobProcess) -> None:
    """Load the models before the call."""
    process.userdata["vad"] = silero.VAD.load(min_silence_duration=0.4)
    process.userdata["recogniser"] = Recogniser()


server = AgentServer(
    port=0,
    host="127.0.0.1",
    num_idle_processes=1,
    initialize_process_timeout=60.0,
    load_threshold=math.inf,
    load_fnc=lambda: 0.0,
    setup_fnc=prewarm,
    preload_modules=["tests.benchmarks.turns_plain"],
)


@server.rtc_session(agent_name=NAME)
async def entry(ctx: JobContext) -> None:
    """Start a session; the metadata of the dispatch has the flow file, of which it takes the parts."""
    bound = bind(load_flow(json.loads(ctx.job.metadata)["flow"], CATALOG), CATALOG)
    await ctx.connect()  # a session for one participant does not connect by itself
    session: AgentSession[None] = AgentSession(
        vad=ctx.proc.userdata["vad"],
        turn_handling=await asyncio.to_thread(turn_handling, bound.flow),
        **_parts(bound, ctx.proc.userdata),
    )
    await session.start(
        Agent(instructions="You answer the telephone."),
        room=ctx.room,
        room_options=RoomOptions(participant_identity="caller"),
        session_host=False,
        record=False,
    )
    if bound.flow.turns.detection == "manual":
        session.input.set_audio_enabled(False)
        for method in ("start_turn", "end_turn"):
            ctx.room.local_participant.register_rpc_method(method, partial(_by_hand, session, method))
    await ctx.wait_for_participant()
    await session.say(bound.greeting_of(bound.flow.first) or "")
    await ctx.room.local_participant.publish_data(b'{"type":"agent.ready"}', topic="agent-status")


def _parts(bound: BoundFlow, userdata: dict[str, Any]) -> dict[str, Any]:
    flow = bound.flow
    assert flow.voice.stt is not None
    recogniser = flow.voice.stt.use
    if recogniser != "offline":
        stt_url = flow.voice.stt.options["base_url"]
        assert flow.voice.llm is not None
        place = {"base_url": flow.voice.llm.options["base_url"], "api_key": os.environ[SECRET]}
        return {
            "stt": STT[recogniser](base_url=stt_url, api_key=os.environ[SECRET]),
            "llm": openai.LLM(**place),
            "tts": openai.TTS(**place),
        }
    matcher, detector = PhraseMatcher(flow), userdata["vad"]
    assert isinstance(detector, vad.VAD)
    sphinx = SphinxSTT(
        userdata["recogniser"],
        grammar=to_grammar(flow),
        is_sentence=lambda text: matcher.match(text) is not None,
    )
    return {
        "stt": stt.StreamAdapter(stt=sphinx, vad=detector),
        "llm": ScriptedLLM(bound, flow.first),
        "tts": EspeakTTS(),
    }


async def _by_hand(session: AgentSession[None], method: str, _: rtc.RpcInvocationData) -> str:
    if method == "start_turn":
        await session.interrupt()
        session.clear_user_turn()
        session.input.set_audio_enabled(True)
    else:
        await asyncio.sleep(TAIL_SECONDS)  # as ours: the end of the sentence may arrive after this request
        session.input.set_audio_enabled(False)
        session.commit_user_turn()
    return ""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(server.run())
