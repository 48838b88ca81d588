"""Print docs/reference/events.md: `python -m tools.docs.event_catalogue [--check FILE]`."""

import json
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

from tools.docs.generated import print_or_check

from antiphon.contracts.asyncapi import PRODUCERS
from antiphon.contracts.event import Event, Family
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.schemas import envelope_schema, event_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "contracts" / "examples"
COMMAND = "python -m tools.docs.event_catalogue > docs/reference/events.md"

Schema = dict[str, Any]

INTRODUCTION = """\
# Events

Every event of a session, as [AsyncAPI 3.0](../../contracts/asyncapi.json) and
[JSON Schemas](../../contracts/schemas) have them. Each is a [CloudEvent](../adr/0002-envelope.md): what all
have is the [envelope](#envelope), what a type has is its `data`. On the bus an event is on
`sessions.<partition>.<tenant>.<session>.<family>` of the stream `SESSIONS`
([how to read it](../how-to/consume-events-on-the-bus.md)); over HTTP it comes
[committed](../how-to/subscribe-to-a-session.md), with its `sequence`.

A field is null when nothing is known. A reader must accept fields and types that it does not know, and skip
a newer version of a type. A field that is personal holds what a person said or gave.
"""


def page() -> str:
    """Return the page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield f"<!-- generated: {COMMAND} -->"
    yield INTRODUCTION
    for family in Family:
        events = [event for event in EVENTS if event.FAMILY is family]
        names = ", ".join(f"[`{event.TYPE}`](#{_anchor(event.TYPE)})" for event in events)
        yield f"- **{family}**, from {' and '.join(PRODUCERS[family])}: {names}"
    yield from ("", "## Envelope", "")
    yield from _fields(envelope_schema())
    for event in EVENTS:
        yield from _event(event)


def _event(event: type[Event]) -> Iterator[str]:
    schema = event_schema(event)
    yield from (f"## {event.TYPE}", "", cleandoc(schema["description"]), "")
    yield f"Version {event.VERSION}, family `{event.FAMILY}`."
    yield ""
    if schema["properties"]:
        yield from _fields(schema)
    example = json.loads((EXAMPLES / f"{event.TYPE}.v{event.VERSION}" / "typical.json").read_text())
    yield from ("```json", json.dumps(example["data"], indent=2, ensure_ascii=False), "```", "")


def _fields(schema: Schema) -> Iterator[str]:
    yield from ("| field | type | |", "|---|---|---|")
    for name, field in schema["properties"].items():
        words = [] if name in schema.get("required", ()) else ["optional"]
        words += ["personal"] if "x-pii" in json.dumps(field) else []
        yield f"| `{name}` | {_type(schema, field)} | {', '.join(words)} |"
    yield ""


def _type(schema: Schema, field: Schema) -> str:
    if "$ref" in field:
        return _type(schema, schema["$defs"][field["$ref"].rpartition("/")[2]])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(schema, option) for option in field["anyOf"] if option != {"type": "null"})
    if field.get("type") == "array":
        return f"list of {_type(schema, field.get('items', {}))}"
    return str(field.get("format", field.get("type", "any")))


def _anchor(heading: str) -> str:
    return "".join(c for c in heading.lower() if c.isalnum() or c in "_-")


if __name__ == "__main__":
    sys.exit(print_or_check("tools.docs.event_catalogue", page(), "the contracts"))
