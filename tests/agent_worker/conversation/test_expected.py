"""The conversations that flows expect: held in text, and compared with what happens."""

from pathlib import Path

import pytest

from antiphon.agent_worker.conversation.expected import Outcome, run_expected
from antiphon.agent_worker.conversation.flow_file import open_flow
from antiphon.agent_worker.conversation.happenings import Ended, told
from antiphon.agent_worker.flow.document import InvalidFlow

SCRIPTED = """\
id: hours
name: Opening hours
description: Says when it is open.
silence: {after_seconds: 10, say: "Are you still there?"}
variables: {metadata.name: stranger}
agents:
  host:
    instructions: Say when it is open.
    greeting: "Hello {metadata.name}, today is {now.weekday}, {now.time}."
script:
  fallback: I did not catch that.
  phrases: {open: when are you open, goodbye: good bye, boss: may i speak to the manager}
  rules:
    - {hear: open, say: From five to eleven.}
    - {hear: boss, say: One moment., hand_off: manager}
    - {hear: goodbye, say: Good bye., end: true}
"""
MANAGER = """\
  manager:
    instructions: Be the manager.
    greeting: I am the manager.
"""
MODEL = """\
id: shop
name: Shop
description: Answers about orders.
voice: {vad: silero, stt: offline, llm: offline, tts: offline}
tools:
  find_order:
    description: Find an order.
    http: {url: "https://shop.example/orders/{number}"}
    arguments: {number: {type: string}}
  crm: {mcp: {command: [sh], tools: [find_customer]}}
agents:
  clerk:
    instructions: Answer.
    greeting: Hello.
    tools: [find_order, crm]
    voice: {llm: openai}
    hand_offs: [boss]
  boss:
    instructions: Decide.
    greeting: I am the boss.
    voice: {llm: openai}
script:
  fallback: Pardon?
  phrases: {never: never said}
  rules: [{hear: never, say: Never.}]
"""


def written(folder: Path, text: str, expect: str) -> Path:
    path = folder / "flow.yaml"
    path.write_text(text.replace("\nscript:", f"\n{MANAGER}script:") if text is SCRIPTED else text)
    with path.open("a") as file:
        file.write(f"expect:\n{expect}")
    return path


async def outcomes(path: Path) -> list[Outcome]:
    return [outcome async for outcome in run_expected(open_flow(path, needs_secrets=False))]


def shown(outcome: Outcome) -> list[str]:
    return [
        f"{found.line}: {step.place}.{found.key}: {found.expected} | {found.heard}"
        for step in outcome.steps
        for found in step.differences
    ]


async def test_a_conversation_from_greeting_to_end(tmp_path: Path) -> None:
    expect = """\
  - name: all of it
    metadata: {name: Ada}
    at: 2026-01-31T18:00
    steps:
      - agent: Hello Ada, today is Saturday, 18:00.
      - agent: Are you still there?
      - {caller: when are you open, agent: From * eleven., calls: []}
      - caller: may i speak to the manager
        agent: [One moment., I am the manager.]
        hands_off_to: manager
        ends: false
      - {caller: good bye, agent: Good bye., calls: end_call, ends: true}
"""
    (outcome,) = await outcomes(written(tmp_path, SCRIPTED, expect))

    assert shown(outcome) == []
    assert outcome.passed
    assert outcome.line == 21
    last = outcome.steps[-1].happened
    assert isinstance(last[-1], Ended)
    assert [told(happening) for happening in last[:2]] == ["Good bye.", "end_call {}"]


async def test_keys_of_a_telephone(tmp_path: Path) -> None:
    actions = "'9': {hear: open}, '0': {hand_off: manager}, '*': {say: Bye., end: true}"
    keys = f"dtmf: {{collect: true, keys: {{{actions}}}}}"
    script = SCRIPTED.replace("agents:\n", f"{keys}\nagents:\n").replace(
        "goodbye: good bye,", "goodbye: good bye, room: 'one two',"
    )
    rule = "    - {hear: room, say: Room twelve.}\n"
    script = script.replace("  rules:\n", f"  rules:\n{rule}").replace("\nscript:", f"\n{MANAGER}script:")
    path = tmp_path / "keys.yaml"
    path.write_text(
        f"""{script}expect:
  - name: keys
    steps:
      - {{keys: '9', agent: From five to eleven.}}
      - {{keys: '12#', agent: Room twelve.}}
      - {{keys: '0', agent: I am the manager., hands_off_to: manager}}
      - {{keys: '*', agent: Bye., ends: true}}
"""
    )

    (outcome,) = await outcomes(path)

    assert shown(outcome) == []


async def test_a_conversation_without_a_time_has_the_same_one_each_day(tmp_path: Path) -> None:
    expect = "  - {name: a, steps: [{agent: 'Hello stranger, today is Thursday, 12:00.'}]}\n"

    (outcome,) = await outcomes(written(tmp_path, SCRIPTED, expect))

    assert shown(outcome) == []


async def test_each_difference_has_its_line_and_place(tmp_path: Path) -> None:
    expect = """\
  - name: wrong
    steps:
      - agent: Good day.
      - caller: when are you open
        agent: Never.
        calls: end_call
        hands_off_to: manager
        ends: true
      - {caller: good bye, ends: false}
      - {caller: good bye}
"""
    (outcome,) = await outcomes(written(tmp_path, SCRIPTED, expect))

    assert not outcome.passed
    assert shown(outcome) == [
        "23: expect[0].steps[0].agent: Good day. | Hello stranger, today is Thursday, 12:00.",
        "25: expect[0].steps[1].agent: Never. | From five to eleven.",
        "26: expect[0].steps[1].calls: end_call | nothing",
        "27: expect[0].steps[1].hands_off_to: manager | no hand-off",
        "28: expect[0].steps[1].ends: the call ends | the call goes on",
        "29: expect[0].steps[2].ends: the call goes on | the call ends",
    ]


async def test_a_step_after_the_end_is_a_difference(tmp_path: Path) -> None:
    expect = "  - {name: a, steps: [{caller: good bye}, {caller: when are you open}, {caller: good bye}]}\n"

    (outcome,) = await outcomes(written(tmp_path, SCRIPTED, expect))

    assert shown(outcome) == [
        "21: expect[0].steps[1].: a call that goes on | the call has ended before this step"
    ]


async def test_only_the_wanted_conversations_are_held(tmp_path: Path) -> None:
    expect = "  - {name: one, steps: [{agent: '*'}]}\n  - {name: two, steps: [{agent: '*'}]}\n"
    file = open_flow(written(tmp_path, SCRIPTED, expect))

    held = [outcome.name async for outcome in run_expected(file, wanted=lambda name: "w" in name)]

    assert held == ["two"]


async def test_models_tools_and_servers_are_canned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    expect = """\
  - name: a real model
    tools:
      find_order: {state: sent}
      find_customer: {error: no such customer}
    steps:
      - caller: where is my order
        model: [{call: {find_order: {number: A1}}}, {say: It was sent.}]
        agent: It was sent.
        calls: find_order
      - caller: who am i
        model: [{call: {find_customer: {name: Ada}}}, {say: I do not know you.}]
        agent: I do not know you.
        calls: find_customer
      - caller: your boss
        model: [{call: {hand_off_to_boss: {}}}]
        agent: I am the boss.
        hands_off_to: boss
"""
    (outcome,) = await outcomes(written(tmp_path, MODEL, expect))

    assert shown(outcome) == []
    told_all = [told(happening) for step in outcome.steps for happening in step.happened]
    assert 'find_order {"number": "A1"} → {"state": "sent"}' in told_all
    assert 'find_customer {"name": "Ada"} → failed: no such customer' in told_all


async def test_answers_of_the_model_that_are_missing_or_too_many_are_differences(tmp_path: Path) -> None:
    expect = """\
  - name: no answer
    steps: [{caller: hello}]
  - name: one too many
    steps: [{caller: hello, model: [{say: Hello.}, {say: Never heard.}]}]
  - name: a tool that the agent does not have
    steps: [{caller: hello, model: [{call: {hand_off_to_clerk: {}}}, {say: Sorry.}]}]
  - name: no result
    steps: [{caller: hello, model: [{call: {find_order: {number: A1}}}, {say: Sorry.}], agent: Sorry.}]
"""
    missing, many, strange, unknown = await outcomes(written(tmp_path, MODEL, expect))

    assert "the model of clerk was asked, and `model` has no answer left for it" in shown(missing)[0]
    assert shown(many)[0].endswith("1 of them not asked for")
    assert "clerk has no tool 'hand_off_to_clerk'; it has end_call, find_customer" in shown(strange)[0]
    assert unknown.passed  # a tool that fails is for the model to answer
    assert "find_order is not called in a test: give its result in `tools`" in told(
        unknown.steps[0].happened[0]
    )


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        ("{name: a, steps: [{caller: x, calls: [sing]}]}", "unknown tool 'sing'"),
        ("{name: a, tools: {sing: 1}, steps: [{caller: x}]}", "unknown tool 'sing'"),
        ("{name: a, steps: [{caller: x, model: [{call: {sing: {}}}]}]}", "unknown tool 'sing'"),
        ("{name: a, steps: [{caller: x, hands_off_to: cook}]}", "unknown agent 'cook'"),
        (
            "{name: a, at: tomorrow, steps: [{caller: x}]}",
            "'tomorrow' is not a time such as 2026-01-31T18:00",
        ),
        ("{name: a, steps: [{keys: '12'}]}", "the flow has no `dtmf`: it does not listen to keys"),
        ("{name: a, steps: [{keys: '1x'}]}", "a telephone has no key 'x'"),
        ("{name: a, steps: [{keys: '1', caller: x}]}", "either `caller` or `keys`"),
    ],
)
def test_an_expectation_that_cannot_hold_is_an_error_of_the_file(
    tmp_path: Path, expect: str, reason: str
) -> None:
    with pytest.raises(InvalidFlow, match=r"flow\.yaml:21: expect\[0\]") as error:
        open_flow(written(tmp_path, SCRIPTED, f"  - {expect}\n"))

    assert reason in str(error.value)


def test_a_silence_needs_a_flow_that_answers_it(tmp_path: Path) -> None:
    path = written(tmp_path, MODEL.replace("llm: openai", "llm: offline"), "  - {name: a, steps: [{}, {}]}\n")

    with pytest.raises(InvalidFlow, match="the flow has no `silence`, so nothing follows on one"):
        open_flow(path)


TRANSFERS = """\
transfers:
  desk: {to: "+49 30 123456", say: I will connect you., on_failure: Nobody is there.}
  home: {to: "+49 30 654321"}
"""


async def test_a_transfer_says_what_a_call_says(tmp_path: Path) -> None:
    """A rule's words are said once; on_failure is heard; and a model is not asked again."""
    script = SCRIPTED.replace(
        "agents:\n", f"{TRANSFERS}dtmf: {{keys: {{'0': {{transfer: desk}}}}}}\nagents:\n"
    )
    script = script.replace("hand_off: manager", "transfer: desk")
    path = tmp_path / "transfers.yaml"
    path.write_text(
        f"""{script}expect:
  - name: by a rule
    steps: [{{caller: may i speak to the manager, agent: One moment., calls: transfer_to_desk, ends: true}}]
  - name: by a rule, in vain
    tools: {{transfer_to_desk: {{error: busy}}}}
    steps:
      - {{caller: may i speak to the manager, agent: One moment. Nobody is there., ends: false}}
      - {{caller: when are you open, agent: From five to eleven., ends: false}}
  - name: by a key
    steps: [{{keys: '0', ends: true}}]
  - name: by a key, in vain
    tools: {{transfer_to_desk: {{error: busy}}}}
    steps: [{{keys: '0', agent: Nobody is there., ends: false}}]
"""
    )

    for outcome in await outcomes(path):
        assert shown(outcome) == [], outcome.name


async def test_a_model_is_not_asked_again_after_a_transfer(tmp_path: Path) -> None:
    flow = MODEL.replace("tools:\n", f"{TRANSFERS}tools:\n", 1).replace(
        "    hand_offs: [boss]\n", "    hand_offs: [boss]\n    transfers: [desk, home]\n"
    )
    path = tmp_path / "transfers.yaml"
    path.write_text(
        f"""{flow}expect:
  - name: done
    steps:
      - caller: a person please
        model: [{{call: {{transfer_to_desk: {{reason: asked}}}}}}]
        agent: I will connect you.
        calls: transfer_to_desk
        ends: true
  - name: in vain
    tools: {{transfer_to_desk: {{error: busy}}}}
    steps:
      - caller: a person please
        model: [{{call: {{transfer_to_desk: {{}}}}}}]
        agent: I will connect you. Nobody is there.
        ends: false
  - name: in vain, and the model explains
    tools: {{transfer_to_home: {{error: busy}}}}
    steps:
      - caller: a person please
        model: [{{call: {{transfer_to_home: {{}}}}}}, {{say: The line is busy.}}]
        agent: The line is busy.
        ends: false
"""
    )

    for outcome in await outcomes(path):
        assert shown(outcome) == [], outcome.name


async def test_a_key_hands_over_as_in_a_call(tmp_path: Path) -> None:
    keys = "limits: {hand_offs: 1}\ndtmf: {keys: {'1': {hand_off: manager}, '2': {hand_off: host}}}\n"
    script = SCRIPTED.replace("agents:\n", f"{keys}agents:\n")
    expect = """\
  - name: once
    steps:
      - {keys: '1', hands_off_to: manager, agent: I am the manager.}
      - {keys: '1', calls: []}
  - name: too often
    steps:
      - {keys: '1', hands_off_to: manager}
      - {keys: '2', calls: []}
"""
    path = tmp_path / "keys.yaml"
    path.write_text(f"{script.replace(chr(10) + 'script:', chr(10) + MANAGER + 'script:')}expect:\n{expect}")

    once, too_often = await outcomes(path)

    assert shown(once) == []
    assert once.steps[1].happened == ()
    (limit,) = shown(too_often)
    assert "the call has had 1 hand-offs, its limit" in limit


async def test_a_result_without_the_outputs_of_its_tool_fails_as_in_a_call(tmp_path: Path) -> None:
    tool = """\
tools:
  find:
    description: Find it.
    http: {url: "https://shop.example/orders"}
    outputs: [state]
agents:
"""
    script = SCRIPTED.replace("agents:\n", tool).replace(
        "say: One moment., hand_off: manager",
        'call: find, say: "It is {state}.", on_failure: It cannot be found.',
    )
    path = tmp_path / "outputs.yaml"
    path.write_text(
        f"""{script}expect:
  - name: given
    tools: {{find: {{state: ready}}}}
    steps: [{{caller: may i speak to the manager, agent: It is ready.}}]
  - name: missing
    tools: {{find: {{sate: ready}}}}
    steps: [{{caller: may i speak to the manager, agent: It cannot be found.}}]
"""
    )

    for outcome in await outcomes(path):
        assert shown(outcome) == [], outcome.name
