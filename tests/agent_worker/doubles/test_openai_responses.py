"""OpenAI's responses through the plugin, over HTTP and over its WebSocket: pieces, tools, usage, faults."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, function_tool, llm, utils
from livekit.plugins import openai
from tests.agent_worker.doubles.driven import SHORT, TWICE, Reply, reply_of
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
from tests.doubles.openai_answers import Answer, Usage, call, calls, say
from tests.doubles.openai_responses import OpenAIResponses
from tests.doubles.server import KEY, serve


@pytest.fixture
def responses() -> OpenAIResponses:
    return OpenAIResponses()


@pytest.fixture
async def address(responses: OpenAIResponses) -> AsyncIterator[str]:
    async with serve(responses) as url, utils.http_context.open():
        yield url


def model_at(address: str, *, socket: bool, **options: Any) -> openai.responses.LLM:
    path = "/v1/responses" if socket else "/v1"
    arguments = {"model": "gpt-4.1", "api_key": KEY, "base_url": f"{address}{path}"} | options
    return openai.responses.LLM(use_websocket=socket, **arguments)


@pytest.fixture(params=[True, False], ids=["websocket", "http"])
async def model(address: str, request: pytest.FixtureRequest) -> AsyncIterator[openai.responses.LLM]:
    plugin = model_at(address, socket=request.param)
    yield plugin
    await plugin.aclose()


@pytest.fixture
async def over_http(address: str) -> AsyncIterator[openai.responses.LLM]:
    plugin = model_at(address, socket=False)
    yield plugin
    await plugin.aclose()


@pytest.fixture
async def over_socket(address: str) -> AsyncIterator[openai.responses.LLM]:
    plugin = model_at(address, socket=True)
    yield plugin
    await plugin.aclose()


@function_tool
async def opening_hours(day: str) -> str:
    """Return the opening hours.

    Args:
        day: Of the week.
    """
    return f"{day}: six to eleven"


async def test_a_text_comes_in_pieces_and_its_usage_last(
    responses: OpenAIResponses, model: openai.responses.LLM
) -> None:
    responses.answers.add(Answer("Hello, how are you?", usage=Usage(prompt=40, cached=32, completion=6)))

    reply = await reply_of(model)

    assert reply.pieces == ["Hello,", " how", " are", " you?"]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.prompt_cached_tokens) == (40, 32)
    assert (reply.usage.completion_tokens, reply.usage.total_tokens) == (6, 46)
    assert responses.refusals == []


async def test_tool_calls_are_put_together(responses: OpenAIResponses, model: openai.responses.LLM) -> None:
    responses.answers.add(
        calls(("opening_hours", {"day": "monday"}), ("opening_hours", {"day": "sunday"}), text="Moment.")
    )

    reply = await reply_of(model, tools=[opening_hours])

    assert reply.text == "Moment."
    assert [json.loads(one.arguments)["day"] for one in reply.calls] == ["monday", "sunday"]
    assert responses.last.body["tools"][0]["name"] == "opening_hours"


async def test_the_next_request_continues_the_response_before(
    responses: OpenAIResponses, model: openai.responses.LLM
) -> None:
    responses.answers.add(call("opening_hours", day="monday"), say("From six."))
    history = llm.ChatContext.empty()
    history.add_message(role="user", content="When?")
    asked = (await reply_of(model, "", tools=[opening_hours], history=history)).calls[0]
    history.items += [
        llm.FunctionCall(call_id=asked.call_id, name=asked.name, arguments=asked.arguments),
        llm.FunctionCallOutput(call_id=asked.call_id, name=asked.name, output="six", is_error=False),
    ]

    reply = await reply_of(model, "", tools=[opening_hours], history=history)

    assert reply.text == "From six."
    assert responses.refusals == []


@pytest.mark.parametrize(
    ("fault", "retried"),
    [(UNAUTHORIZED, False), (FORBIDDEN, False), (RATE_LIMITED, True), (BROKEN, True)],
    ids=lambda value: str(getattr(value, "code", value)),
)
async def test_a_status_is_raised_with_its_code(
    responses: OpenAIResponses, over_http: openai.responses.LLM, fault: Status, retried: bool
) -> None:
    responses.faults.then(fault)

    with pytest.raises(APIStatusError) as caught:
        await reply_of(over_http)

    assert (caught.value.status_code, caught.value.retryable) == (fault.code, retried)


@pytest.mark.parametrize("fault", [UNAUTHORIZED, RATE_LIMITED, BROKEN], ids=lambda fault: str(fault.code))
async def test_a_refused_websocket_is_a_connection_error_that_is_retried(
    responses: OpenAIResponses, over_socket: openai.responses.LLM, fault: Status
) -> None:
    """The plugin does not tell a wrong key from a passing fault."""
    responses.answers.add(say("Hello."))
    responses.faults.then(fault, fault)

    with pytest.raises(APIConnectionError) as caught:
        await reply_of(over_socket)

    assert caught.value.retryable
    assert str(fault.code) in str(caught.value)
    assert (await reply_of(over_socket, options=TWICE)).text == "Hello."


@pytest.mark.parametrize("fault", [RATE_LIMITED, BROKEN, Cut(after=1), Cut(after=2)], ids=str)
async def test_a_passing_fault_is_over_with_the_second_attempt(
    responses: OpenAIResponses, model: openai.responses.LLM, fault: Any
) -> None:
    responses.answers.add(say("Hello again."))
    responses.faults.then(fault)

    assert (await reply_of(model, options=TWICE)).text == "Hello again."


async def test_a_cut_after_words_is_not_repeated_over_http(
    responses: OpenAIResponses, over_http: openai.responses.LLM
) -> None:
    responses.answers.add(say("One two three four."))
    responses.faults.then(Cut(after=6))
    heard = Reply()

    with pytest.raises(APIConnectionError) as caught:
        await reply_of(over_http, options=TWICE, reply=heard)

    assert heard.text == "One two"
    assert not caught.value.retryable


async def test_a_server_that_says_nothing_times_out_over_http(
    responses: OpenAIResponses, over_http: openai.responses.LLM
) -> None:
    responses.answers.add(say("Hello."))
    responses.faults.then(Hang())

    with pytest.raises(APITimeoutError):
        await reply_of(over_http, options=SHORT)


async def test_a_handshake_that_hangs_is_a_connection_error(responses: OpenAIResponses, address: str) -> None:
    import httpx2

    plugin = model_at(address, socket=True, timeout=httpx2.Timeout(0.3))
    responses.faults.then(Hang())

    with pytest.raises(APIConnectionError, match="timed out connecting"):
        await reply_of(plugin)
    await plugin.aclose()


async def test_a_response_that_fails_is_raised_with_its_message(
    responses: OpenAIResponses, model: openai.responses.LLM
) -> None:
    responses.answers.add(Answer("One", failed="server_error"))
    heard = Reply()

    with pytest.raises(APIStatusError, match="the double makes the response fail") as caught:
        await reply_of(model, reply=heard)

    assert heard.text == "One"
    assert not caught.value.retryable


@pytest.mark.parametrize("kind", ["not_json", "wrong_schema"])
async def test_nonsense_over_the_websocket_is_a_connection_error(
    responses: OpenAIResponses, over_socket: openai.responses.LLM, kind: Any
) -> None:
    responses.answers.add(say("Hello."))
    responses.faults.then(Nonsense(kind))

    with pytest.raises(APIConnectionError):
        await reply_of(over_socket)


async def test_nonsense_over_http_is_a_connection_error(
    responses: OpenAIResponses, over_http: openai.responses.LLM
) -> None:
    responses.answers.add(say("Hello."))
    responses.faults.then(Nonsense("not_json"))

    with pytest.raises(APIConnectionError):
        await reply_of(over_http)


async def test_a_page_in_place_of_a_stream_is_an_empty_answer(
    responses: OpenAIResponses, over_http: openai.responses.LLM
) -> None:
    """The plugin takes it for an answer without a word; `must_answer` makes an error of it."""
    responses.faults.then(Nonsense("page"))

    assert (await reply_of(over_http)).text == ""


async def test_a_stream_that_stops_in_the_middle_times_out(
    responses: OpenAIResponses, over_http: openai.responses.LLM
) -> None:
    responses.answers.add(say("one two three"))
    responses.faults.then(Hang(after=5))
    reply = Reply()

    with pytest.raises(APIConnectionError):
        await reply_of(over_http, options=SHORT, reply=reply)

    assert reply.text.startswith("one")


async def test_a_slow_first_event_is_waited_for(
    responses: OpenAIResponses, model: openai.responses.LLM
) -> None:
    responses.answers.add(say("Hello."))
    responses.faults.then(Slow(0.2))

    assert (await reply_of(model)).text == "Hello."


async def test_what_the_service_does_not_take_is_refused(responses: OpenAIResponses, address: str) -> None:
    for socket in (False, True):
        plugin = model_at(address, socket=socket, model="")
        with pytest.raises(APIStatusError, match="you must provide a model") as caught:
            await reply_of(plugin)
        assert caught.value.retryable is False
        await plugin.aclose()
    assert len(responses.refusals) == 2
