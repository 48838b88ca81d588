"""The scripted model is a real model plug-in: it streams, counts, and remembers nothing between calls."""

import asyncio
from typing import Any

import pytest
from livekit.agents import llm

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.providers.scripted import ScriptedLLM


def context(*words: str) -> llm.ChatContext:
    chat = llm.ChatContext.empty()
    chat.add_message(role="system", content="You book tables.")
    for text in words:
        chat.add_message(role="user", content=text)
    return chat


PROPOSED = ("i would like to book a table for two", "tomorrow at seven")


async def test_the_answer_is_streamed_with_its_usage(booking: Flow) -> None:
    async with asyncio.timeout(5), ScriptedLLM(booking, "host").chat(chat_ctx=context("hello")) as stream:
        response = await stream.collect()
    assert response.text == "Hello. Would you like to book a table?"
    assert response.usage is not None
    assert response.usage.completion_tokens == 8
    assert response.usage.total_tokens == response.usage.prompt_tokens + 8


def test_the_same_conversation_has_the_same_answer_however_often_it_is_asked(booking: Flow) -> None:
    model, chat = ScriptedLLM(booking, "host"), context(*PROPOSED, "yes please")
    before = chat.to_dict()
    first = model.answer(chat)
    assert [model.answer(chat) for _ in range(3)] == [first] * 3
    assert chat.to_dict() == before


def test_a_dropped_answer_leaves_no_trace(booking: Flow) -> None:
    model = ScriptedLLM(booking, "host")
    model.answer(context(*PROPOSED, "yes please"))
    assert model.answer(context(*PROPOSED, "no thank you")) == ScriptedLLM(booking, "host").answer(
        context(*PROPOSED, "no thank you")
    )


def test_another_model_goes_on_where_a_conversation_was(booking: Flow) -> None:
    (call,) = ScriptedLLM(booking, "host").answer(context(*PROPOSED, "(unclear)", "yes please")).tool_calls
    assert (call.name, call.arguments) == (
        "book_table",
        '{"party_size": 2, "day": "tomorrow", "time": "19:00"}',
    )


@pytest.mark.parametrize("is_error", [False, True])
def test_a_tool_s_output_is_answered(is_error: bool, booking: Flow) -> None:
    model, chat = ScriptedLLM(booking, "host"), context(*PROPOSED, "yes please")
    (call,) = model.answer(chat).tool_calls
    output = "away" if is_error else '{"reference": "T0042"}'
    chat.items.append(
        llm.FunctionCallOutput(name=call.name, call_id=call.call_id, output=output, is_error=is_error)
    )
    answer = model.answer(chat)
    assert answer.tool_calls == []
    assert ("T 0 0 4 2" in (answer.content or "")) is not is_error
    assert ("could not book" in (answer.content or "")) is is_error


def test_the_output_of_an_earlier_call_is_not_taken_for_this_one(booking: Flow) -> None:
    model, chat = ScriptedLLM(booking, "host"), context(*PROPOSED, "yes please")
    chat.items.append(llm.FunctionCallOutput(name="book_table", call_id="other", output="{}", is_error=False))
    assert [call.name for call in model.answer(chat).tool_calls] == ["book_table"]


@pytest.mark.parametrize(
    "words", [(*PROPOSED, "yes please"), ("may i speak to the manager",), ("thank you good bye",)]
)
def test_no_tool_is_called_when_none_may_be(words: tuple[str, ...], booking: Flow) -> None:
    model = ScriptedLLM(booking, "host")
    assert model.answer(context(*words)).tool_calls != []
    silent = model.answer(context(*words), may_call=False)
    assert silent.tool_calls == []
    assert silent.content


def test_a_caller_who_has_said_nothing_is_greeted(booking: Flow) -> None:
    assert ScriptedLLM(booking, "manager").answer(context()).content == booking.agents["manager"].greeting


def test_the_agent_that_really_speaks_answers_whatever_was_said_before(booking: Flow) -> None:
    """A hand-off that was asked for and failed leaves the caller with the host."""
    words = ("may i speak to the manager", "may i speak to the manager")
    assert [call.name for call in ScriptedLLM(booking, "host").answer(context(*words)).tool_calls] == [
        "hand_off_to_manager"
    ]
    answer: Any = ScriptedLLM(booking, "manager").answer(context(*words))
    assert answer.content.startswith("You are speaking to the manager")
