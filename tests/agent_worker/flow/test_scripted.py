"""The scripted model as an LLM plug-in: streaming, usage, and no state between calls."""

import asyncio
from typing import Any

import pytest
from livekit.agents import llm

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.scripted import ScriptedLLM


def context(*words: str) -> llm.ChatContext:
    chat = llm.ChatContext.empty()
    chat.add_message(role="system", content="You book tables.")
    for text in words:
        chat.add_message(role="user", content=text)
    return chat


BOOKING = ("i would like to book a table for two", "tomorrow at seven")


async def test_answer_is_streamed_with_usage(bound: BoundFlow) -> None:
    async with asyncio.timeout(60), ScriptedLLM(bound, "host").chat(chat_ctx=context("hello")) as stream:
        response = await stream.collect()
    assert response.text == "Hello. Would you like to book a table?"
    assert response.usage is not None
    assert response.usage.completion_tokens == 8
    assert response.usage.total_tokens == response.usage.prompt_tokens + 8


def test_same_conversation_has_the_same_answer(bound: BoundFlow) -> None:
    model, chat = ScriptedLLM(bound, "host"), context(*BOOKING, "yes please")
    before = chat.to_dict()
    first = model.answer(chat)
    assert [model.answer(chat) for _ in range(3)] == [first] * 3
    assert chat.to_dict() == before


def test_discarded_answer_has_no_effect(bound: BoundFlow) -> None:
    model = ScriptedLLM(bound, "host")
    model.answer(context(*BOOKING, "yes please"))
    assert model.answer(context(*BOOKING, "no thank you")) == ScriptedLLM(bound, "host").answer(
        context(*BOOKING, "no thank you")
    )


def test_new_model_continues_a_conversation(bound: BoundFlow) -> None:
    (call,) = ScriptedLLM(bound, "host").answer(context(*BOOKING, "(unclear)", "yes please")).tool_calls
    assert (call.name, call.arguments) == (
        "book_table",
        '{"party_size": 2, "day": "tomorrow", "time": "19:00"}',
    )


@pytest.mark.parametrize("is_error", [False, True])
def test_tool_output_is_answered(is_error: bool, bound: BoundFlow) -> None:
    model, chat = ScriptedLLM(bound, "host"), context(*BOOKING, "yes please")
    (call,) = model.answer(chat).tool_calls
    output = "unavailable" if is_error else '{"reference": "T0042"}'
    chat.items.append(
        llm.FunctionCallOutput(name=call.name, call_id=call.call_id, output=output, is_error=is_error)
    )
    answer = model.answer(chat)
    assert answer.tool_calls == []
    assert ("T 0 0 4 2" in (answer.content or "")) is not is_error
    assert ("could not book" in (answer.content or "")) is is_error


def test_output_of_another_call_is_ignored(bound: BoundFlow) -> None:
    model, chat = ScriptedLLM(bound, "host"), context(*BOOKING, "yes please")
    chat.items.append(llm.FunctionCallOutput(name="book_table", call_id="other", output="{}", is_error=False))
    assert [call.name for call in model.answer(chat).tool_calls] == ["book_table"]


@pytest.mark.parametrize(
    "words", [(*BOOKING, "yes please"), ("may i speak to the manager",), ("thank you good bye",)]
)
def test_no_tool_call_when_tool_choice_is_none(words: tuple[str, ...], bound: BoundFlow) -> None:
    model = ScriptedLLM(bound, "host")
    assert model.answer(context(*words)).tool_calls != []
    silent = model.answer(context(*words), may_call=False)
    assert silent.tool_calls == []
    assert silent.content


def test_empty_conversation_gets_the_greeting(bound: BoundFlow) -> None:
    assert ScriptedLLM(bound, "manager").answer(context()).content == bound.greeting_of("manager")


def test_agent_in_charge_answers_after_a_failed_hand_off(bound: BoundFlow) -> None:
    words = ("may i speak to the manager", "may i speak to the manager")
    assert [call.name for call in ScriptedLLM(bound, "host").answer(context(*words)).tool_calls] == [
        "hand_off_to_manager"
    ]
    answer: Any = ScriptedLLM(bound, "manager").answer(context(*words))
    assert answer.content.startswith("You are speaking to the manager")
