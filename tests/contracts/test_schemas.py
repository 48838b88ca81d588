"""Schemas change by addition only; every kind of breaking change is detected."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from antiphon.contracts.events.session import SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.schemas import breaking_changes, event_schema

Schema = dict[str, Any]


def changed(change: Callable[[Schema], Any], schema: Schema) -> list[str]:
    new = copy.deepcopy(schema)
    change(new)
    return list(breaking_changes(schema, new))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["properties"].pop("user_text"), "/user_text: was removed"),
        (lambda s: s["required"].append("language"), "/language: became required"),
        (lambda s: s["properties"]["turn"].update(type="string"), "/turn: type was"),
        (lambda s: s["properties"]["turn"].update(minimum=2), "/turn: minimum was"),
        (lambda s: s["properties"]["tool_call_ids"]["items"].update(type="integer"), "items: type was"),
        (lambda s: s["properties"]["user_text"].update(anyOf=[]), "/user_text: anyOf was"),
    ],
)
def test_breaking_change_is_described(change: Callable[[Schema], Any], message: str) -> None:
    assert any(message in found for found in changed(change, event_schema(TurnSaved)))


def test_removed_enum_value_is_a_breaking_change() -> None:
    assert changed(lambda s: s["$defs"]["CloseReason"]["enum"].remove("error"), event_schema(SessionClosed))


def test_new_enum_value_is_a_breaking_change() -> None:
    assert changed(
        lambda s: s["$defs"]["CloseReason"]["enum"].append("bored"), event_schema(SessionClosed)
    ) == ["/CloseReason: 'bored' is new, and refused by readers of before"]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["properties"].update(mood={"type": "string"}),
        lambda s: s.update(description="better words"),
        lambda s: s["required"].remove("agent_id"),
    ],
)
def test_addition_is_not_a_breaking_change(change: Callable[[Schema], Any]) -> None:
    assert changed(change, event_schema(TurnSaved)) == []


def test_personal_fields_are_marked() -> None:
    properties = event_schema(TurnSaved)["properties"]

    assert {"x-pii": True, "type": "string"} in properties["user_text"]["anyOf"]
    assert "x-pii" not in properties["turn"]
