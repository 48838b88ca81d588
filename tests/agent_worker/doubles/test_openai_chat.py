"""OpenAI's chat completions through the plugin: pieces, tool calls, usage, and every fault."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, function_tool, llm
from livekit.plugins import openai
from tests.agent_worker.doubles.driven import ONCE, SHORT, TWICE, Reply, reply_of
from tests.doubles.faults import (
    BROKEN,
    FORBIDDEN,
    RATE_LIMITED,
    UNAUTHORIZED,
    Cut,
    Hang,
    Nonsense,
    Slow,
    Status,
)
from tests.doubles.openai_answers import Answer, Call, Usage, call, calls, say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.server import KEY


@pytest.fixture
async def model(url: str) -> AsyncIterator[openai.LLM]:
    plugin = openai.LLM(model="gpt-4.1", api_key=KEY, base_url=f"{url}/v1")
    yield plugin
    await plugin.aclose()


@function_tool
async def book_table(time: str, people: int) -> str:
    """Book a table.

    Args:
        time: When, as HH:MM.
        people: How many.
    """
    return f"booked for {people} at {time}"


@function_tool
async def opening_hours() -> str:
    """Return the opening hours."""
    return "six to eleven"


async def test_a_text_comes_in_pieces_and_its_usage_last(chat: OpenAIChat, model: openai.LLM) -> None:
    chat.answers.add(Answer("Hello, how can I help?", usage=Usage(prompt=40, cached=32, completion=6)))

    reply = await reply_of(model)

    assert reply.pieces == ["Hello,", " how", " can", " I", " help?"]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.prompt_cached_tokens) == (40, 32)
    assert (reply.usage.completion_tokens, reply.usage.total_tokens) == (6, 46)
    assert chat.last.body["messages"] == [{"role": "user", "content": "Hello?"}]
    assert chat.refusals == []


async def test_tool_calls_in_pieces_are_put_together(chat: OpenAIChat, model: openai.LLM) -> None:
    arguments = {"time": "19:30", "people": 12}
    chat.answers.add(calls(("book_table", arguments), ("opening_hours", {}), text="One moment."))

    reply = await reply_of(model, tools=[book_table, opening_hours])

    assert reply.text == "One moment."
    assert [one.name for one in reply.calls] == ["book_table", "opening_hours"]
    assert json.loads(reply.calls[0].arguments) == arguments
    assert len({one.call_id for one in reply.calls}) == 2
    assert [tool["function"]["name"] for tool in chat.last.body["tools"]] == ["book_table", "opening_hours"]


async def test_the_result_of_a_tool_goes_back_under_its_id(chat: OpenAIChat, model: openai.LLM) -> None:
    chat.answers.add(call("opening_hours"), say("From six."))
    asked = (await reply_of(model, tools=[opening_hours])).calls[0]
    history = llm.ChatContext.empty()
    history.add_message(role="user", content="When?")
    history.items += [
        llm.FunctionCall(call_id=asked.call_id, name=asked.name, arguments=asked.arguments),
        llm.FunctionCallOutput(call_id=asked.call_id, name=asked.name, output="six", is_error=False),
    ]

    reply = await reply_of(model, "", tools=[opening_hours], history=history)

    assert reply.text == "From six."
    assert chat.last.body["messages"][-1] == {"role": "tool", "tool_call_id": asked.call_id, "content": "six"}
    assert chat.refusals == []


async def test_arguments_that_are_not_json_reach_the_caller_of_the_plugin(
    chat: OpenAIChat, model: openai.LLM
) -> None:
    chat.answers.add(Answer(calls=(Call("book_table", '{"time": "19:30", "peo'),)))

    reply = await reply_of(model, tools=[book_table])

    assert reply.calls[0].arguments == '{"time": "19:30", "peo'


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True), (Status(503), True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_status_is_raised_with_its_code_and_only_passing_ones_are_retried(
    chat: OpenAIChat, model: openai.LLM, fault: Status, retried: bool
) -> None:
    chat.answers.add(say("Hello."))
    chat.faults.then(fault, fault)

    with pytest.raises(APIStatusError) as caught:
        await reply_of(model, options=ONCE)

    assert caught.value.status_code == fault.code
    assert caught.value.retryable is retried
    assert caught.value.request_id
    errors: list[llm.LLMError] = []
    model.on("error", errors.append)
    expected: Any = APIConnectionError if retried else APIStatusError
    chat.faults.then(fault)
    with pytest.raises(expected):
        await reply_of(model, options=TWICE)
    assert [one.recoverable for one in errors] == ([True, False] if retried else [False])


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=0), Cut(after=1), Nonsense()], ids=str)
async def test_a_passing_fault_is_over_with_the_second_attempt(
    chat: OpenAIChat, model: openai.LLM, fault: Any
) -> None:
    chat.answers.add(say("Hello again."))
    chat.faults.then(fault)

    reply = await reply_of(model, options=TWICE)

    assert reply.text == "Hello again."
    assert len(chat.received) == 2


async def test_a_server_that_says_nothing_times_out(chat: OpenAIChat, model: openai.LLM) -> None:
    chat.answers.add(say("Hello."))
    chat.faults.then(Hang())

    with pytest.raises(APITimeoutError) as caught:
        await reply_of(model, options=SHORT)

    assert caught.value.retryable


async def test_a_stream_that_stops_in_the_middle_times_out_and_is_not_repeated(
    chat: OpenAIChat, model: openai.LLM
) -> None:
    chat.answers.add(say("One two three four."))
    chat.faults.then(Hang(after=3))
    heard = Reply()

    with pytest.raises(APITimeoutError) as caught:
        await reply_of(model, options=SHORT, reply=heard)

    assert heard.text == "One two"
    assert not caught.value.retryable  # what was spoken would be spoken twice


async def test_a_cut_in_the_middle_keeps_what_came_and_is_not_repeated(
    chat: OpenAIChat, model: openai.LLM
) -> None:
    chat.answers.add(say("One two three four."))
    chat.faults.then(Cut(after=3))
    heard = Reply()

    with pytest.raises(APIConnectionError) as caught:
        await reply_of(model, options=TWICE, reply=heard)

    assert heard.text == "One two"
    assert not caught.value.retryable
    assert len(chat.received) == 1


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_nonsense_in_the_stream_is_a_connection_error(
    chat: OpenAIChat, model: openai.LLM, kind: Any
) -> None:
    chat.answers.add(say("Hello."))
    chat.faults.then(Nonsense(kind))

    with pytest.raises(APIConnectionError):
        await reply_of(model)


async def test_a_page_in_place_of_a_stream_is_an_empty_answer(chat: OpenAIChat, model: openai.LLM) -> None:
    chat.answers.add(say("Hello."))
    chat.faults.then(Nonsense("page"))

    reply = await reply_of(model)

    assert (reply.text, reply.calls, reply.usage) == ("", [], None)


async def test_a_slow_first_piece_is_waited_for(chat: OpenAIChat, model: openai.LLM) -> None:
    chat.answers.add(say("Hello."))
    chat.faults.then(Slow(0.2))

    assert (await reply_of(model)).text == "Hello."


async def test_a_wrong_key_and_an_unknown_model_are_refused(chat: OpenAIChat, url: str) -> None:
    chat.models = frozenset({"gpt-4.1"})

    for name, key, status, message in (
        ("gpt-4.1", "another", 401, "Incorrect API key"),
        ("gpt-9", KEY, 404, "does not exist"),
        ("", KEY, 400, "you must provide a model"),
    ):
        async with openai.LLM(base_url=f"{url}/v1", model=name, api_key=key) as plugin:
            with pytest.raises(APIStatusError, match=message) as caught:
                await reply_of(plugin)
        assert caught.value.status_code == status


async def test_a_tool_result_without_its_call_is_refused(chat: OpenAIChat, model: openai.LLM) -> None:
    import httpx

    body = {
        "model": "gpt-4.1",
        "stream": True,
        "messages": [{"role": "tool", "tool_call_id": "call_9", "content": "x"}],
    }
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{model._client.base_url}chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}
        )

    assert answer.status_code == 400
    assert "must be a response to a preceding message" in answer.json()["error"]["message"]
    assert chat.refusals


async def test_the_warm_up_is_answered(chat: OpenAIChat, model: openai.LLM) -> None:
    await model._prewarm_impl()

    assert chat.received == []  # it is no request for an answer
