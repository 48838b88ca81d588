"""The caller interrupts what the agent says beside its answers: a filler line, an apology."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import llm
from livekit.agents._exceptions import APIConnectionError
from tests.agent_worker.told_model import Conversation, conversation, until
from tests.fixtures.silent_voice import SilentPlayer, SilentTTS

from antiphon.agent_worker.flow.model import DEFAULT_APOLOGY

FILLER = "One moment please while I look for that in all of our books."
FLOW = f"""
tools:
  slow:
    python: "tests.agent_worker.tools.functions:slow"
    filler: {{say: "{FILLER}", after_seconds: 0.1}}
agents: {{host: {{instructions: Talk., greeting: Hello., tools: [slow]}}}}
"""
GONE = llm.LLMError(timestamp=0, label="m", error=APIConnectionError("gone"), recoverable=False)


@asynccontextmanager
async def spoken() -> AsyncIterator[Conversation]:
    """A conversation whose agent can be heard, and takes its time."""
    async with conversation(FLOW, tools=True, as_in_a_call=True, tts=SilentTTS()) as talk:
        talk.session.output.audio = SilentPlayer()
        yield talk


def said(talk: Conversation, words: str) -> list[str]:
    """Return what of a text was said, each time that it was begun."""
    lines = [item.text_content or "" for item in talk.session.history.items if item.type == "message"]
    return [line for line in lines if line and (words.startswith(line) or line == words)]


async def speaking(talk: Conversation) -> None:
    await until(lambda: talk.session.agent_state == "speaking")


@pytest.mark.parametrize("seconds", [1, 8], ids=["quick", "longer than LiveKit waits"])
async def test_words_of_the_caller_cut_the_filler_line_and_the_tool_goes_on(seconds: int) -> None:
    async with spoken() as talk:
        talk.session.generate_reply(user_input=f'slow({{"seconds": {seconds}}})')
        await speaking(talk)
        talk.session.interrupt()
        talk.session.generate_reply(user_input="hello")
        await talk.shows("You said: hello")
        await until(lambda: "done" in outputs(talk))  # which the model knows from now on
        assert len(said(talk, FILLER)) <= 1
        assert "You said: again" in await talk.say("again")
        assert talk.shown.count("You said: hello") == 1
        assert outputs(talk).count("done") == 1
        assert any(item.type == "function_call_output" for item in talk.model.contexts[-1].items)


async def test_a_noise_cuts_the_filler_line_and_the_tool_is_answered_once() -> None:
    async with spoken() as talk:
        talk.session.generate_reply(user_input='slow({"seconds": 2})')
        await speaking(talk)
        activity = talk.session._activity
        assert activity is not None
        activity._interrupt_by_audio_activity()  # nothing was said
        await talk.shows("Done: done")
        assert talk.shown.count("Done: done") == 1
        assert len(said(talk, FILLER)) <= 1


async def test_the_caller_interrupts_the_apology_and_is_answered() -> None:
    async with spoken() as talk:
        session: Any = talk.session
        session._on_error(GONE)
        await speaking(talk)
        talk.session.interrupt()
        talk.session.generate_reply(user_input="hello")
        await talk.shows("You said: hello")
        assert len(said(talk, DEFAULT_APOLOGY)) <= 1
        assert talk.shown.count("You said: hello") == 1
        session._on_error(GONE)  # another one later is heard again
        await until(lambda: said(talk, DEFAULT_APOLOGY)[-1:] == [DEFAULT_APOLOGY])
        assert not talk.is_closed.is_set()


def outputs(talk: Conversation) -> list[str]:
    """Return what the tools returned."""
    return [item.output for item in talk.session.history.items if item.type == "function_call_output"]
