"""Bodies of older versions are read as the newest one; a step that is missing is noticed."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, history

from antiphon.contracts import upcasters
from antiphon.contracts.errors import MalformedEvent, UnsupportedEventVersion
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import EVENTS, open_event
from antiphon.contracts.session import fold
from antiphon.contracts.upcasters import UPCASTERS, Steps, upcast, wrong_steps

TURNS = history([TurnSaved(turn=number, agent_id="host", user_text="hello") for number in (1, 2, 3)])


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Steps], None]:
    """A function that raises `turn.saved` to a version, with these steps."""

    def plant(version: int, steps: Steps) -> None:
        monkeypatch.setattr(TurnSaved, "VERSION", version)
        monkeypatch.setattr(upcasters, "UPCASTERS", steps)

    return plant


def _name_the_agent(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "agent_id": "the " + body["agent_id"]}


def _louder(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "user_text": body["user_text"].upper()}


def test_stored_turns_fold_after_the_type_has_a_new_version(planted: Callable[[int, Steps], None]) -> None:
    planted(2, {("turn.saved", 1): _name_the_agent})

    state = fold(SESSION_ID, "default", TURNS)

    assert (state.turns, state.skipped) == (3, 0)


def test_a_body_takes_every_step_to_the_newest_version(planted: Callable[[int, Steps], None]) -> None:
    planted(3, {("turn.saved", 1): _name_the_agent, ("turn.saved", 2): _louder})
    first = TURNS[0]
    second = replace(first, dataschema="https://antiphon.dev/schemas/turn.saved/2")

    assert open_event(first) == TurnSaved(turn=1, agent_id="the host", user_text="HELLO")
    assert open_event(second) == TurnSaved(turn=1, agent_id="host", user_text="HELLO")


@pytest.mark.parametrize(
    "data", [b"{}", b"7", b"[]", b'{"agent_id": 4}', b'{"agent_id": "\\ud800"}', b"nope"]
)
def test_a_body_that_a_step_cannot_read_is_malformed(
    data: bytes, planted: Callable[[int, Steps], None]
) -> None:
    planted(2, {("turn.saved", 1): _name_the_agent})

    with pytest.raises(MalformedEvent, match=r"turn\.saved"):
        open_event(replace(TURNS[0], data=Raw(data)))


def test_what_a_step_returns_is_validated(planted: Callable[[int, Steps], None]) -> None:
    planted(2, {("turn.saved", 1): lambda _: {"turn": "first"}})

    with pytest.raises(MalformedEvent, match=r"turn\.saved"):
        open_event(TURNS[0])


def test_a_missing_step_is_unsupported() -> None:
    with pytest.raises(UnsupportedEventVersion, match="version 2 has no upcaster"):
        upcast("turn.sung", {}, 2, 4)


def test_every_version_has_a_step_to_the_next() -> None:
    versions = {event.TYPE: event.VERSION for event in EVENTS}

    assert list(wrong_steps(versions, UPCASTERS)) == []


def test_missing_and_unused_steps_are_described() -> None:
    steps = {("a", 1): dict, ("a", 3): dict, ("gone", 1): dict}

    assert list(wrong_steps({"a": 3, "b": 1}, steps)) == [
        "a: no upcaster from version 2 to 3",
        "a: the upcaster from version 3 belongs to no event",
        "gone: the upcaster from version 1 belongs to no event",
    ]
