"""A silent caller is asked a few times, and then left alone."""

import asyncio
from typing import Any

from livekit.agents import AgentSession

from antiphon.agent_worker.flow import Flow, build_entry_agent
from antiphon.agent_worker.flow.silence import SilencePrompt, attach


def _quick(flow: Flow) -> Flow:
    silence = flow.silence.model_copy(update={"after_seconds": 0.02, "at_most": 2})
    return flow.model_copy(update={"silence": silence})


class _Asked:
    """Counts the prompts that were spoken to their end."""

    def __init__(self, session: AgentSession[Any], words: str) -> None:
        self._words = words
        self._asked = asyncio.Semaphore(0)
        self._listening = asyncio.Event()
        session.on("conversation_item_added", self._on_item)
        session.on("agent_state_changed", self._on_state)

    def _on_item(self, event: Any) -> None:
        if event.item.type == "message" and event.item.text_content == self._words:
            self._listening.clear()
            self._asked.release()

    def _on_state(self, event: Any) -> None:
        if event.new_state == "listening":
            self._listening.set()

    async def times(self, count: int) -> None:
        async with asyncio.timeout(5):
            for _ in range(count):
                await self._asked.acquire()
            await self._listening.wait()


async def _silent_session(flow: Flow) -> tuple[AgentSession[Any], SilencePrompt, _Asked]:
    session: AgentSession[Any] = AgentSession(
        vad=None,
        turn_handling={"turn_detection": "manual"},
        user_away_timeout=flow.silence.after_seconds,
    )
    prompt = attach(session, flow)
    asked = _Asked(session, flow.silence.say)
    await session.start(build_entry_agent(flow))

    return session, prompt, asked


async def test_a_silent_caller_is_asked_at_most_as_often_as_the_flow_says(booking: Flow) -> None:
    session, prompt, asked = await _silent_session(_quick(booking))
    await asked.times(2)
    assert not prompt.is_waiting
    await session.aclose()


async def test_a_caller_who_speaks_again_is_asked_again_in_the_next_silence(booking: Flow) -> None:
    session, prompt, asked = await _silent_session(_quick(booking))
    await asked.times(2)
    session._update_user_state("speaking")
    session._update_user_state("listening")
    await asked.times(1)
    await session.aclose()
    assert not prompt.is_waiting
