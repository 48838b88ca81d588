"""The page of events holds all that the AsyncAPI document does."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tools.docs import event_catalogue

from antiphon.contracts.registry import EVENTS

Node = dict[str, Any]


def document() -> Node:
    loaded: Node = json.loads(event_catalogue.ASYNCAPI.read_text())
    return loaded


def values_of(node: Any) -> Iterator[str]:
    """Yield the limits and patterns of a schema, as the page has them."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "pattern":
                yield f"`{value}`".replace("|", "\\|")
            elif key == "enum":
                yield from (f"`{each}`" for each in value)
            elif key in {"minimum", "maximum", "minLength", "maxLength"}:
                yield str(value)
            elif key == "properties":
                yield from (f"| `{name}` |" for name in value)
                yield from values_of(list(value.values()))
            elif key in {"anyOf", "items", "$defs", "additionalProperties"}:
                yield from values_of(list(value.values()) if key == "$defs" else value)
    elif isinstance(node, list):
        for each in node:
            yield from values_of(each)


def test_the_page_has_every_event_with_its_fields_and_an_example() -> None:
    page = event_catalogue.page()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    objects = sections["Objects in events"]

    assert [name for name in sections if "```json" in sections[name]] == [event.TYPE for event in EVENTS]
    names = {"envelope": "Envelope", "worker.heartbeat": "The heartbeat of a worker"}
    for name, schema in document()["components"]["schemas"].items():
        text = sections[names.get(name, name)] + objects
        assert [value for value in values_of(schema) if value not in text] == [], name


def test_the_page_has_the_server_the_channels_and_who_uses_them() -> None:
    page, found = event_catalogue.page(), document()

    assert "`nats://127.0.0.1:4222`" in page
    for name, channel in found["channels"].items():
        [row] = [
            line for line in page.splitlines() if line.startswith(f"| `{name}` | `{channel['address']}` |")
        ]
        assert all(f"`{message}`" in row for message in channel["messages"])
        assert all(f"| `{parameter}` | " in page for parameter in channel["parameters"])
    for name, operation in found["operations"].items():
        assert f"| `{name}` | {operation['action']} | " in page


def test_a_limit_that_is_missing_would_be_found() -> None:
    schema = {
        "properties": {"a": {"anyOf": [{"type": "integer", "maximum": 17}]}},
        "$defs": {"B": {"enum": ["c"]}},
    }
    assert list(values_of(schema)) == ["| `a` |", "17", "`c`"]
    assert re.search(r"\| `id` \| string, 1 to 256 characters \|", event_catalogue.page())
