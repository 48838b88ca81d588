"""Whole conversations with a flow's agents, in text, through a real AgentSession."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import AgentSession, llm
from livekit.agents.metrics import LLMModelUsage
from livekit.agents.voice.run_result import RunResult

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.tools import booking

Say = Callable[[str], Awaitable[list[str]]]


@asynccontextmanager
async def conversation(bound: BoundFlow) -> AsyncIterator[tuple[AgentSession[Any], Say]]:
    session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
    await session.start(build_entry_agent(bound, ScriptedLLM))

    async def say(words: str) -> list[str]:
        result: RunResult[None] = await session.run(user_input=words)
        return [_format(event.item) for event in result.events]

    try:
        yield session, say
    finally:
        await session.aclose()


def _format(item: Any) -> str:
    match item:
        case llm.ChatMessage():
            return str(item.text_content)
        case llm.FunctionCall():
            return f"-> {item.name} {item.arguments}"
        case llm.FunctionCallOutput():
            return f"<- {item.name} {'failed' if item.is_error else item.output}"
        case _:
            return f"{item.old_agent_id} => {item.new_agent_id}"


async def test_booking_from_greeting_to_end_of_call(bound: BoundFlow) -> None:
    async with conversation(bound) as (session, say):
        closed = asyncio.Event()
        session.on("close", lambda _: closed.set())
        assert await say("hello") == ["Hello. Would you like to book a table?"]
        assert await say("i would like to book a table for two") == [
            "A table for two. Which day, and at what time?"
        ]
        assert (await say("tomorrow at seven"))[0].startswith(
            "A table for two, tomorrow at seven. Shall I book it?"
        )
        call, output, answer = await say("yes please")
        assert call == '-> book_table {"party_size": 2, "day": "tomorrow", "time": "19:00"}'
        reference = json.loads(output.removeprefix("<- book_table "))["reference"]
        assert (
            answer
            == f"Your table is booked. Your reference is {' '.join(reference)}. Is there anything else?"
        )
        assert await say("may i speak to the manager") == [
            "One moment please, I will get the manager.",
            "-> hand_off_to_manager {}",
            "<- hand_off_to_manager ",
            "host => manager",
            "Good evening, I am the manager. What can I do for you?",
        ]
        assert session.current_agent.id == "manager"
        assert await say("no thank you") == ["Very well. I am here when you need me."]
        assert (await say("thank you good bye"))[:2] == ["Thank you for calling. Good bye.", "-> end_call {}"]
        await asyncio.wait_for(closed.wait(), 5)
        usage = session.usage.model_usage[0]
        assert isinstance(usage, LLMModelUsage)
        assert (usage.provider, usage.model) == ("offline", "scripted")
        assert usage.output_tokens > 0


async def test_no_thank_you_books_nothing_and_asks_again(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for two")
        await say("tomorrow at seven")
        refused = await say("no thank you")
        assert refused == ["Very well, I have not booked it. Which day and time would you like instead?"]
        assert (await say("on sunday at nine"))[0].startswith("A table for two, sunday at nine.")


@pytest.mark.parametrize("words", ["(unclear)", "what is the weather like", "yes"])
async def test_unclear_message_gets_the_fallback(words: str, bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for two")
        await say("tomorrow at seven")
        answer = await say(words)
        assert answer == [bound.flow.script.fallback]
        assert "I did not catch that" in (bound.flow.script.fallback or "")


async def test_question_stays_open_after_an_unclear_message(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for two")
        await say("tomorrow at seven")
        await say("(unclear)")
        assert (await say("yes please"))[0].startswith("-> book_table")


@pytest.mark.parametrize("before", [[], ["i would like to book a table for two"], ["tomorrow at seven"]])
async def test_yes_please_without_a_question_books_nothing(before: list[str], bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        for words in before:
            await say(words)
        assert not any("book_table" in step for step in await say("yes please"))


async def test_second_yes_please_does_not_book_twice(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for two")
        await say("tomorrow at seven")
        assert any("book_table" in step for step in await say("yes please"))
        assert not any("book_table" in step for step in await say("yes please"))


async def test_second_booking_has_its_own_reference(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        references = []
        for _ in range(2):
            await say("i would like to book a table for two")
            await say("tomorrow at seven")
            references.append((await say("yes please"))[1])
        assert references[0] != references[1]


async def test_booking_continues_after_a_hand_off(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for six")
        await say("may i speak to the manager")
        assert (await say("tomorrow at seven"))[0].startswith("A table for six, tomorrow at seven.")
        assert (await say("yes please"))[0].startswith("-> book_table")


async def test_agent_does_not_hand_off_to_itself(bound: BoundFlow) -> None:
    async with conversation(bound) as (_, say):
        await say("may i speak to the manager")
        again = await say("may i speak to the manager")
        assert again == ["You are speaking to the manager. What can I do for you?"]


async def test_failed_tool_is_reported_and_can_be_retried(
    bound: BoundFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> dict[str, str]:
        raise ConnectionError("the database is unavailable")

    works = booking.book_table._func
    monkeypatch.setattr(booking.book_table, "_func", fail)
    async with conversation(bound) as (_, say):
        await say("i would like to book a table for two")
        await say("tomorrow at seven")
        assert (await say("yes please"))[1:] == [
            "<- book_table failed",
            "I am sorry, I could not book that table. Please try again.",
        ]
        monkeypatch.setattr(booking.book_table, "_func", works)
        assert (await say("yes please"))[-1].startswith("Your table is booked.")
