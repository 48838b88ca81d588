"""The limits of a flow end a call: its length, and a silence of both."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.agent_worker.told_model import Conversation, conversation
from tests.agent_worker.tools import functions

from antiphon.agent_worker.call_limits import CallLimits
from antiphon.agent_worker.hang_up import hang_up
from antiphon.contracts.events.session import CloseReason

AGENTS = """
agents: {host: {instructions: Talk., greeting: Hello.}}
"""
LIMITS = """
limits: {call_seconds: %s, silence_seconds: %s}
ending: {on_limit: Time is up., on_silence: Good bye then.}
"""


@pytest.fixture
async def released() -> AsyncIterator[None]:
    """Let functions that never return do so after the test."""
    functions.release.clear()
    yield
    functions.release.set()


async def closed(talk: Conversation) -> Any:
    """Wait until the session is closed."""
    await asyncio.wait_for(talk.is_closed.wait(), 60)


async def test_a_call_ends_at_its_longest_time() -> None:
    async with conversation(LIMITS % (0.3, 600) + AGENTS) as talk:
        CallLimits(talk.call, talk.session)
        await closed(talk)
        assert talk.shown[-1] == "Time is up."
        assert talk.record.ends == [CloseReason.MAX_DURATION]


async def test_a_call_ends_when_nobody_speaks() -> None:
    async with conversation(LIMITS % (600, 0.3) + AGENTS) as talk:
        CallLimits(talk.call, talk.session)
        await closed(talk)
        assert talk.shown[-1] == "Good bye then."
        assert talk.record.ends == [CloseReason.SILENCE]


async def test_a_call_without_words_for_its_end_just_ends() -> None:
    async with conversation("limits: {silence_seconds: 0.2}" + AGENTS) as talk:
        CallLimits(talk.call, talk.session)
        await closed(talk)
        assert talk.shown == ["None => host"]


async def test_silence_is_counted_again_after_each_word() -> None:
    async with conversation(LIMITS % (600, 30) + AGENTS) as talk:
        limits = CallLimits(talk.call, talk.session)
        first = limits._silence
        await talk.say("hello")
        assert first is not None
        assert first.cancelled()
        waits = [limits._silence is not None]
        for state in ("speaking", "listening"):
            talk.session._update_user_state(state)
            waits.append(limits._silence is not None)
    assert [*waits, limits._silence is not None] == [True, False, True, False]
    assert limits._end.cancelled()


@pytest.mark.parametrize("tool", ["slow", "stuck", "stubborn"])
async def test_a_call_ends_while_a_tool_runs(tool: str, released: None) -> None:
    function = f"tools: {{it: {{python: 'tests.agent_worker.tools.functions:{tool}', timeout_seconds: 300}}}}"
    flow = LIMITS % (0.5, 600) + function + AGENTS.replace("Hello.", "Hello., tools: [it]")
    async with conversation(flow, tools=True) as talk:
        CallLimits(talk.call, talk.session)
        talk.session.generate_reply(user_input='it({"seconds": 300})' if tool == "slow" else "it({})")
        await asyncio.wait_for(talk.is_closed.wait(), 30)
        assert talk.shown[2] == "Time is up."
        (output,) = [item for item in talk.session.history.items if item.type == "function_call_output"]
        assert (output.is_error, output.output) == (True, "it was stopped: the call has ended")


async def test_only_the_first_reason_counts() -> None:
    async with conversation(AGENTS) as talk:
        for reason in (CloseReason.VOICEMAIL, CloseReason.SILENCE):
            hang_up(talk.call, talk.session, reason, None)
        await closed(talk)
        assert talk.record.ends == [CloseReason.VOICEMAIL]


async def test_a_voice_that_fails_does_not_keep_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with conversation(AGENTS) as talk:

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no voice")

        monkeypatch.setattr(talk.session, "say", fail)
        hang_up(talk.call, talk.session, CloseReason.MAX_DURATION, "Time is up.")
        await closed(talk)
