"""The page of events holds all that the AsyncAPI document does."""

import json
from collections.abc import Iterator
from typing import Any

from tools.docs import event_catalogue

from antiphon.contracts.registry import EVENTS

Node = dict[str, Any]
LIMITS = ("minimum", "maximum", "minLength", "maxLength")


def document() -> Node:
    loaded: Node = json.loads(event_catalogue.ASYNCAPI.read_text())
    return loaded


def values_of(schema: Node) -> Iterator[str]:
    """Yield the fields, limits and patterns of a schema, as the page has them."""
    yield from (f"| `{name}` |" for name in schema.get("properties", ()))
    yield from (f"`{value}`" for value in schema.get("enum", ()))
    yield from (str(schema[limit]) for limit in LIMITS if limit in schema)
    yield from (f"`{schema[key]}`".replace("|", "\\|") for key in ("pattern",) if key in schema)
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    for each in (*inner, *schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(each, dict):
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
    number = {"anyOf": [{"type": "integer", "maximum": 17}]}
    schema = {"properties": {"a": number}, "$defs": {"B": {"enum": ["c"]}}}

    assert list(values_of(schema)) == ["| `a` |", "17", "`c`"]
    assert "| `id` | string, 1 to 256 characters |" in event_catalogue.page()
