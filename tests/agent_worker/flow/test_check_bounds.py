"""The check of a flow ends soon and stops nobody else, whatever its publisher wrote."""

import threading
from enum import Enum
from time import monotonic, process_time, sleep

import pytest
from livekit.agents import function_tool

from antiphon.agent_worker.flow_check import check_source
from antiphon.contracts.flows import FlowCheckReply, FlowCheckRequest

PROCESSOR_SECONDS = 20.0  # generous: each took minutes, or gigabytes

HEAD = """
id: large
name: Large
description: A flow.
voice: {vad: silero, stt: offline, llm: offline, tts: offline}
agents: {host: {instructions: Help., greeting: hello there}}
"""
CALL = """
script:
  fallback: sorry
  slots: {food: {one: WORDS}}
  phrases: {food: ["{food}"]}
  rules: [{hear: food, needs: [food], call: order, say: thanks, on_failure: sorry}]
"""


class Food(Enum):
    """An argument whose JSON Schema is a reference."""

    SOUP = "soup"
    CAKE = "cake"


@function_tool
async def order(food: Food) -> str:
    """Order something."""
    return food.value


def check(source: str) -> FlowCheckReply:
    began = process_time()
    reply = check_source(FlowCheckRequest(source=source))
    assert process_time() - began < PROCESSOR_SECONDS
    return reply


def reasons(reply: FlowCheckReply) -> list[str]:
    return [problem.reason for problem in reply.problems]


def http_tool(arguments: str) -> str:
    request = "http: {url: 'https://example.com/orders'}"
    return f"tools:\n  order: {{description: Order., {request}, arguments: {{{arguments}}}}}\n"


@pytest.mark.parametrize("dialect", ["", '"$schema": "http://json-schema.org/draft-07/schema#", '])
def test_a_regular_expression_without_end_stops_no_other_thread(dialect: str) -> None:
    stopped = threading.Event()
    longest = 0.0

    def beat() -> None:
        nonlocal longest
        last = monotonic()
        while not stopped.is_set():
            sleep(0.01)
            longest, last = max(longest, monotonic() - last), monotonic()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        schema = f'food: {{{dialect}type: string, pattern: "^(a+)+$"}}'
        reply = check(HEAD + http_tool(schema) + CALL.replace("WORDS", f"{'a' * 30}b"))
    finally:
        stopped.set()
        thread.join()
    assert "does not match" in reasons(reply)[0]
    assert longest < 10  # it was half a minute, and doubled with each letter


def test_a_pattern_that_only_python_knows_is_left_to_the_call() -> None:
    schema = 'food: {type: string, pattern: "^(?=s)soup$"}'
    assert check(HEAD + http_tool(schema) + CALL.replace("WORDS", "cake")).summary is not None


def test_references_that_multiply_end() -> None:
    def both(name: str) -> str:
        reference = f'{{"$ref": "#/properties/{name}"}}'
        return f"{{default: x, allOf: [{reference}, {reference}]}}"

    steps = [f"a{n}: {both(f'a{n + 1}')}" for n in range(40)]
    schema = ", ".join(['food: {"$ref": "#/properties/a0"}', *steps, "a40: {default: x}"])
    reply = check(HEAD + http_tool(schema) + CALL.replace("WORDS", "soup"))
    assert "follows more than 20000 references" in reasons(reply)[0]


@pytest.mark.parametrize("reference", ["#/$defs/nothing", "#/properties/food"])
def test_a_reference_that_leads_nowhere_is_a_problem_of_the_flow(reference: str) -> None:
    reply = check(HEAD + http_tool(f'food: {{"$ref": "{reference}"}}') + CALL.replace("WORDS", "soup"))
    assert "its JSON Schema cannot be used" in reasons(reply)[0]


@pytest.mark.parametrize(("value", "accepted"), [("soup", True), ("salad", False)])
def test_values_of_an_enum_of_a_function_are_checked(value: str, *, accepted: bool) -> None:
    tools = f"tools: {{order: {{python: '{__name__}:order'}}}}\n"
    reply = check(HEAD + tools + CALL.replace("WORDS", value))
    assert (reply.summary is not None) is accepted
    assert accepted or "is not one of ['soup', 'cake']" in reasons(reply)[0]


def test_long_sentences_are_counted_by_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", "none")  # its recogniser takes any word
    optional = " ".join(f"[{letter}]" for letter in "abcdefghijklmn")
    phrases = f"{{long: ['{optional} {'a' * 300_000}']}}"
    script = f"script:\n  fallback: sorry\n  phrases: {phrases}\n  rules: [{{hear: long, say: ok}}]\n"
    reply = check(HEAD.replace("stt: offline", "stt: deepgram") + script)
    assert "more than 20000000 characters in sentences" in reasons(reply)[0]


def test_very_many_wrong_names_get_few_suggestions() -> None:
    known = "".join(f"  metadata.guest{n}: x\n" for n in range(5_000))
    used = "".join(f"{{metadata.quest{n}}}" for n in range(5_000))
    reply = check(f"{HEAD}variables:\n{known}script:\n  fallback: '{used}'\n")
    assert any("did you mean 'metadata.guest" in reason for reason in reasons(reply))
    assert reply.more > 4_000


def test_errors_do_not_repeat_long_names() -> None:
    phrases = "".join(f"    ? {letter * 20_000}\n    : [soup]\n" for letter in "abcdefghijkl")
    rules = "    - {hear: nothing, say: ok}\n" * 500
    reply = check(f"{HEAD}script:\n  fallback: sorry\n  phrases:\n{phrases}  rules:\n{rules}")
    named = [reason for reason in reasons(reply) if "unknown phrase" in reason]
    assert all(len(reason) < 1_000 for reason in named)
    assert named
