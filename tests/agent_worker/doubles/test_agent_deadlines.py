"""An agent with providers of its own has their deadlines, not those of the agent that began the call."""

import asyncio
from functools import partial

import pytest
from livekit.agents.llm import ChatContext
from tests.agent_worker.doubles.driven import until
from tests.agent_worker.doubles.spoken_call import APOLOGY, USERDATA, SpokenCall
from tests.agent_worker.doubles.test_spoken_faults import Calls, Servers, calls, servers
from tests.doubles.faults import Slow

from antiphon.agent_worker.agents import next_agent
from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.call import Call
from antiphon.agent_worker.providers.voices import voice_of_agent

__all__ = ["calls", "servers"]


@pytest.mark.parametrize(("hosts", "own", "said"), [(0.5, 10.0, "I am the second."), (10.0, 0.5, APOLOGY)])
async def test_the_model_of_an_agent_that_takes_over_has_its_own_deadline(
    servers: Servers, calls: Calls, hosts: float, own: float, said: str
) -> None:
    servers.chats[1].faults.always = Slow(2.0)
    voice = servers.voice(fallback=False, seconds={"llm": hosts})
    async with calls(voice, agents=_two_agents(f"llm: {_own(servers, 'openai', '/v1', own)}")) as call:
        await _hand_over(call)
        call.session.generate_reply(user_input="Hello?")
        await call.answered(2)

        assert call.said == ["Hi.", said]


@pytest.mark.parametrize(("hosts", "own", "seconds"), [(0.5, 3.0, 3.0), (3.0, 0.5, 0.5), (0.5, 20.0, 5.0)])
async def test_the_recogniser_of_an_agent_that_takes_over_is_given_its_own_time_for_words(
    servers: Servers, calls: Calls, hosts: float, own: float, seconds: float
) -> None:
    voice = servers.voice(fallback=False, seconds={"stt": hosts})
    agents = _two_agents(f"stt: {_own(servers, 'deepgram', '/v1/listen', own)}")
    async with calls(voice, agents=agents, detector=True) as call:
        assert call.session.options.transcription_timeout == hosts
        await _hand_over(call)

        assert call.session.options.transcription_timeout == seconds
        assert call.session.conn_options.stt_conn_options.timeout == own


def _two_agents(voice: str) -> str:
    return (
        "agents:\n"
        "  host: {instructions: Be brief., greeting: Hello there., hand_offs: {second: {}}}\n"
        f"  second: {{instructions: Be brief., greeting: Hi., voice: {{{voice}}}}}\n"
    )


def _own(servers: Servers, use: str, path: str, seconds: float) -> str:
    url = f"{servers.urls[1]}{path}"
    return f'{{use: {use}, base_url: "{url}", api_key: "{{secret.DOUBLE}}", timeout_seconds: {seconds}}}'


async def _hand_over(call: SpokenCall) -> None:
    session = call.session
    assert isinstance(session, ApologisingSession)
    build = next_agent(Call(session._bound, partial(voice_of_agent, userdata=USERDATA)))
    session.update_agent(build("second", ChatContext.empty(), session.history))
    async with asyncio.timeout(30):
        await until(lambda: call.said == ["Hi."])
