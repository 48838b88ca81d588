"""The keys of the telephone: what each does, and numbers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc
from livekit.agents.llm import RawFunctionTool
from tests.agent_worker.told_model import Conversation, conversation, until

from antiphon.agent_worker import closing, hand_off
from antiphon.agent_worker.hand_off import under_way
from antiphon.agent_worker.keys import IGNORED, Keys
from antiphon.contracts.events.session import CloseReason

FLOW = """
limits: {hand_offs: 1}
transfers: {desk: {to: "+4930", on_failure: Nobody is there.}}
dtmf:
  keys:
    "1": {say: We open at nine.}
    "2": what is the menu
    "3": {hand_off: sales, say: I will get sales.}
    "4": {transfer: desk}
    "5": {hear: boat}
    "*": {hand_off: host}
    "0": {say: Good bye., end: true}
%s
agents:
  host: {instructions: Help., greeting: Hello.}
  sales: {instructions: Sell., greeting: Sales here.}
script:
  slots: {size: [big, small]}
  phrases: {boat: "a {size} boat", code: one two three}
  rules:
    - {hear: boat, needs: [size], say: "A {size} boat!"}
    - {hear: code, say: That is right.}
"""
COLLECT = "  collect: true\n  pause_seconds: 0.2"


def keys(talk: Conversation) -> Keys:
    dtmf = talk.call.bound.flow.dtmf
    assert dtmf is not None
    return Keys(talk.call, talk.session, dtmf)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("1", "We open at nine."),
        ("2", "You said: what is the menu"),
        ("3", "Sales here."),
        ("4", "Nobody is there."),
        ("5", "A big boat!"),
    ],
)
async def test_a_key_does_what_the_flow_says(key: str, line: str) -> None:
    async with conversation(FLOW % "") as talk:
        keys(talk).press(key)
        await talk.shows(line)


async def test_a_key_hands_over_once_and_its_reason_is_on_record() -> None:
    async with conversation(FLOW % "") as talk:
        pressed = keys(talk)
        pressed.press("3")
        await talk.shows("Sales here.")
        assert talk.record.hand_offs == ["key: 3"]
        assert talk.shown.index("I will get sales.") < talk.shown.index("host => sales")
        pressed.press("*")
        await until(lambda: bool(talk.record.errors))
        assert talk.session.current_agent.id == "sales"


async def test_a_key_that_is_pressed_again_transfers_once() -> None:
    numbers: list[str] = []

    class Ringing:
        async def transfer(self, to: str, /) -> None:
            numbers.append(to)
            await asyncio.sleep(0.5)

    async with conversation(FLOW % "", telephone=Ringing()) as talk:
        pressed = keys(talk)
        for key in "4414":
            pressed.press(key)
            await asyncio.sleep(0.05)
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert numbers == ["tel:+4930"]
        assert talk.record.ends == [CloseReason.TRANSFERRED]
        assert talk.shown == ["None => host"]


async def test_a_key_that_is_pressed_again_hands_over_once() -> None:
    async with conversation(FLOW % "") as talk:
        pressed = keys(talk)
        for _ in range(20):
            pressed.press("3")
        await talk.shows("Sales here.")
        pressed.press("3")
        assert await talk.say("hello") == ["You said: hello"]
        assert talk.record.hand_offs == ["key: 3"]
        assert talk.record.errors == []


UNDER_WAY = """
transfers: {desk: {to: "+4930"}}
dtmf:
  keys:
    "1": {say: We open at nine.}
    "2": what is the menu
    "3": {hand_off: sales}
    "4": {hand_off: support}
    "5": {transfer: desk}
  collect: true
  pause_seconds: 0.05
tools: {slow: {python: "tests.agent_worker.tools.functions:slow", timeout_seconds: 300}}
agents:
  host: {instructions: Help., greeting: Hello., tools: [slow], hand_offs: [support]}
  sales: {instructions: Sell., greeting: Sales here.}
  support: {instructions: Repair., greeting: Support here.}
"""


@asynccontextmanager
async def draining(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Conversation, Keys]]:
    """Hand over by a key from an agent whose tool is still running."""
    monkeypatch.setattr(closing, "DRAIN_SECONDS", 1.0)
    async with conversation(UNDER_WAY, tools=True, as_in_a_call=True) as talk:
        running: list[Any] = []
        talk.session.on("tool_execution_updated", running.append)
        talk.session.generate_reply(user_input='slow({"seconds": 300})')
        await until(lambda: bool(running))
        pressed = keys(talk)
        pressed.press("3")
        await until(lambda: under_way(talk.session))
        yield talk, pressed


async def test_a_hand_off_does_not_wait_for_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    async with draining(monkeypatch) as (talk, _):
        await talk.shows("Sales here.")
        assert await talk.say("hello") == ["You said: hello"]
        assert talk.record.hand_offs == ["key: 3"]


async def test_a_key_of_another_agent_during_a_hand_off_hands_over_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with draining(monkeypatch) as (talk, pressed):
        pressed.press("4")
        await talk.shows("Support here.")
        assert [line for line in talk.shown if "=>" in line] == [
            "None => host",
            "host => sales",
            "sales => support",
        ]
        assert talk.record.hand_offs == ["key: 3", "key: 4"]
        assert talk.record.errors == []


async def test_a_tool_of_the_old_agent_does_not_hand_over_during_the_hand_off_of_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with draining(monkeypatch) as (talk, _):
        activity = talk.session._activity
        assert activity is not None
        (tool,) = [tool for tool in activity.agent.tools if tool.id == "hand_off_to_support"]
        context = SimpleNamespace(session=talk.session, speech_handle=None)
        assert isinstance(tool, RawFunctionTool)
        result = await tool({}, context)
        assert result.output == "not handed over to support: sales takes over already"
        await talk.shows("Sales here.")
        assert talk.record.hand_offs == ["key: 3"]


@pytest.mark.parametrize(
    ("typed", "line"),
    [("1", "We open at nine."), ("2", "You said: what is the menu"), ("67", "You said: 67")],
)
async def test_what_is_pressed_during_a_hand_off_is_for_the_next_agent(
    monkeypatch: pytest.MonkeyPatch, typed: str, line: str
) -> None:
    async with draining(monkeypatch) as (talk, pressed):
        for key in typed:
            pressed.press(key)
        await talk.shows(line)
        assert talk.shown.index("host => sales") < talk.shown.index(line)
        assert talk.session.current_agent.id == "sales"
        assert talk.record.errors == []


async def test_a_key_after_a_hand_off_that_does_not_end_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async with draining(monkeypatch) as (talk, pressed):
        monkeypatch.setattr(hand_off, "TAKE_OVER_SECONDS", 0.05)
        pressed._handing_over = asyncio.Lock()  # not held by the key before, which waits for longer
        pressed.press("4")
        await until(lambda: bool(talk.record.errors))
        (error,) = talk.record.errors
        assert (error.kind, error.recoverable) == (IGNORED, True)
        assert error.message == "key 4 did nothing: the hand-off before it did not end"
        await talk.shows("Sales here.")


async def test_a_key_during_a_transfer_is_on_record() -> None:
    class Ringing:
        async def transfer(self, _to: str, /) -> None:
            await until(lambda: len(talk.record.errors) == 2)

    async with conversation(UNDER_WAY, tools=True, telephone=Ringing()) as talk:
        pressed = keys(talk)
        pressed.press("5")
        await until(lambda: talk.call.transferring)
        pressed.press("3")
        pressed.press("1")
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert sorted(error.message for error in talk.record.errors) == [
            "key 1 did nothing: the caller is being transferred",
            "key 3 did nothing: the caller is being transferred",
        ]


async def test_a_key_ends_the_call() -> None:
    async with conversation(FLOW % "") as talk:
        keys(talk).press("0")
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert talk.shown[-1] == "Good bye."
        assert talk.record.ends == [CloseReason.AGENT_ENDED]


@pytest.mark.parametrize(
    ("pressed", "line"),
    [("678", "You said: 678"), ("7123#", "You said: 7123"), ("99#2", "You said: what is the menu")],
)
async def test_keys_are_gathered_to_a_number(pressed: str, line: str) -> None:
    async with conversation(FLOW % COLLECT) as talk:
        typed = keys(talk)
        for key in pressed:
            typed.press(key)
        await talk.shows(line)


async def test_a_number_that_is_a_phrase_is_heard_in_words() -> None:
    flow = (FLOW % COLLECT).replace('"1": {say: We open at nine.}', '"6": {say: We open at nine.}')
    async with conversation(flow) as talk:
        typed = keys(talk)
        for key in "123#":
            typed.press(key)
        await talk.shows("That is right.")


@pytest.mark.parametrize("key", ["7", "x", "", "12", "#"])
async def test_other_keys_do_nothing(key: str) -> None:
    async with conversation(FLOW % "") as talk:
        keys(talk).press(key)
        assert await talk.say("hello") == ["You said: hello"]


@pytest.mark.parametrize(("who", "acts"), [("caller", True), ("observer", False), (None, False)])
async def test_only_the_caller_steers_the_call(who: str | None, acts: bool) -> None:
    async with conversation(FLOW % "") as talk:
        taken: list[str] = []
        caller = SimpleNamespace(identity="caller")
        session: Any = SimpleNamespace(room_io=SimpleNamespace(linked_participant=caller), on=lambda *_: None)
        dtmf = talk.call.bound.flow.dtmf
        assert dtmf is not None
        heard = Keys(talk.call, session, dtmf)
        heard.press = taken.append  # type: ignore[method-assign, assignment]
        participant: Any = None if who is None else SimpleNamespace(identity=who)
        heard.on_dtmf(rtc.SipDTMF(code=1, digit="1", participant=participant))
        assert taken == (["1"] if acts else [])
