"""A silent caller is prompted a limited number of times."""

import asyncio
from typing import Any

from livekit.agents import AgentSession

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.call import Silence
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.silence import SilencePrompter, prompt_on_silence

QUICK = Silence(after_seconds=0.02, say="Are you still there?", at_most=2)


class _Prompts:
    """The prompts that were spoken completely."""

    def __init__(self, session: AgentSession[Any], words: str) -> None:
        self._words = words
        self._spoken = asyncio.Semaphore(0)
        self._listening = asyncio.Event()
        session.on("conversation_item_added", self._on_item)
        session.on("agent_state_changed", self._on_state)

    def _on_item(self, event: Any) -> None:
        if event.item.type == "message" and event.item.text_content == self._words:
            self._listening.clear()
            self._spoken.release()

    def _on_state(self, event: Any) -> None:
        if event.new_state == "listening":
            self._listening.set()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(60):
            for _ in range(count):
                await self._spoken.acquire()
            await self._listening.wait()


async def _silent_session(bound: BoundFlow) -> tuple[AgentSession[Any], SilencePrompter, _Prompts]:
    session: AgentSession[Any] = AgentSession(
        vad=None,
        turn_handling={"turn_detection": "manual"},
        user_away_timeout=QUICK.after_seconds,
    )
    prompter = prompt_on_silence(session, QUICK, QUICK.say)
    prompts = _Prompts(session, QUICK.say)
    await session.start(build_entry_agent(bound, ScriptedLLM))

    return session, prompter, prompts


async def test_prompts_stop_at_the_limit(bound: BoundFlow) -> None:
    session, prompter, prompts = await _silent_session(bound)
    await prompts.wait_for(2)
    assert prompter._timer is None
    await session.aclose()


async def test_limit_is_reset_when_the_caller_speaks(bound: BoundFlow) -> None:
    session, prompter, prompts = await _silent_session(bound)
    await prompts.wait_for(2)
    session._update_user_state("speaking")
    session._update_user_state("listening")
    await prompts.wait_for(1)
    await session.aclose()
    assert prompter._timer is None
