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
from antiphon.contracts.schemas import envelope_schema, event_schema, heartbeat_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "contracts" / "examples"
ASYNCAPI = ROOT / "contracts" / "asyncapi.json"
COMMAND = "python -m tools.docs.event_catalogue > docs/reference/events.md"

Schema = dict[str, Any]

INTRODUCTION = """\
# Events

Every event of a session, as [AsyncAPI 3.0](../../contracts/asyncapi.json) and
[JSON Schemas](../../contracts/schemas) have them. Each is a [CloudEvent](../adr/0002-envelope.md): what all
have is the [envelope](#envelope), what a type has is its `data`. On the bus an event is on
`sessions.<partition>.<tenant>.<session>.<family>` of the stream `SESSIONS`
([how to read it](../how-to/consume-events-on-the-bus.md)); over HTTP it comes
[committed](../how-to/subscribe-to-a-session.md), with its `sequence`. All [channels](#channels) and who
[sends and receives](#operations) on them are at the end.

A field is null when nothing is known. A reader must accept fields and types that it does not know, and skip
a newer version of a type. A field that is personal holds what a person said or gave.
"""


def page() -> str:
    """Return the page."""
    document = json.loads(ASYNCAPI.read_text())
    return "\n".join([*_events(), *_types(), *_heartbeat(), *_channels(document), *_operations(document)])


def _events() -> Iterator[str]:
    yield f"<!-- generated: {COMMAND} -->"
    yield INTRODUCTION
    for family in Family:
        events = [event for event in EVENTS if event.FAMILY is family]
        names = ", ".join(f"[`{event.TYPE}`](#{_anchor(event.TYPE)})" for event in events)
        yield f"- **`{family}`**, from {' and '.join(PRODUCERS[family])}: {names}"
    yield from ("", "## Envelope", "", cleandoc(envelope_schema()["description"]), "")
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


def _types() -> Iterator[str]:
    """Yield the objects that fields of events hold."""
    schemas = [event_schema(event) for event in EVENTS]
    found = {name: (schema, own) for schema in schemas for name, own in schema.get("$defs", {}).items()}
    yield from ("## Objects in events", "")
    for name, (schema, own) in sorted(found.items()):
        if "properties" in own:
            yield from (f"### {name}", "", cleandoc(own.get("description", "")), "")
            yield from _fields({**own, "$defs": schema["$defs"]})


def _heartbeat() -> Iterator[str]:
    schema = heartbeat_schema()
    yield from ("## The heartbeat of a worker", "", cleandoc(schema["description"]), "")
    yield from _fields(schema)


def _channels(document: Schema) -> Iterator[str]:
    content = document["defaultContentType"]
    yield from ("## Channels", "", document["info"]["description"], "")
    for name, server in document["servers"].items():
        yield f"Server `{name}`: `{server['protocol']}://{server['host']}`. A message is `{content}`,"
        yield "if its channel does not say otherwise."
        yield ""
    yield from ("| channel | address | messages | what it is |", "|---|---|---|---|")
    parameters: dict[str, str] = {}
    for name, channel in document["channels"].items():
        parameters |= {key: own["description"] for key, own in channel.get("parameters", {}).items()}
        messages = ", ".join(_message(key, own) for key, own in channel["messages"].items())
        yield f"| `{name}` | `{channel['address']}` | {messages} | {channel['description']} |"
    yield from ("", "| parameter | what it is |", "|---|---|")
    yield from (f"| `{name}` | {what} |" for name, what in parameters.items())
    yield ""


def _message(name: str, message: Schema) -> str:
    if "$ref" in message:
        return f"[`{name}`](#{_anchor(name)})"
    payload = message["payload"]
    if payload.get("type") == "array":
        return f"`{name}`: a list of [envelopes](#envelope), `{message['contentType']}`"
    return f"[`{name}`](#the-heartbeat-of-a-worker), `{message['contentType']}`"


def _operations(document: Schema) -> Iterator[str]:
    yield from ("## Operations", "", "| operation | action | channel | what it does |", "|---|---|---|---|")
    for name, operation in document["operations"].items():
        channel = operation["channel"]["$ref"].rpartition("/")[2]
        yield f"| `{name}` | {operation['action']} | `{channel}` | {operation['summary']} |"
    yield ""


def _fields(schema: Schema) -> Iterator[str]:
    yield from ("| field | type | |", "|---|---|---|")
    for name, field in schema["properties"].items():
        words = [] if name in schema.get("required", ()) else ["optional"]
        words += ["personal"] if "x-pii" in json.dumps(field) else []
        about = next(iter(_descriptions(field)), None)
        words += [about] if about else []
        yield f"| `{name}` | {_type(schema, field)} | {', '.join(words)} |"
    yield ""


def _descriptions(field: Schema) -> Iterator[str]:
    if "description" in field:
        yield field["description"]
    for option in field.get("anyOf", ()):
        yield from _descriptions(option)


def _type(schema: Schema, field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        own = schema["$defs"][name]
        return f"[{name}](#{name.lower()})" if "properties" in own else _type(schema, own)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        options = [_type(schema, option) for option in field["anyOf"] if option != {"type": "null"}]
        return " or ".join([*options, *(["null"] if {"type": "null"} in field["anyOf"] else [])])
    if field.get("type") == "array":
        return f"list of {_type(schema, field.get('items', {}))}"
    values = field.get("additionalProperties")
    if isinstance(values, dict):
        return f"object of {_type(schema, values)}"
    return str(field.get("format", field.get("type", "any"))) + _bounds(field)


def _bounds(field: Schema) -> str:
    if "pattern" in field:
        return f", `{field['pattern']}`".replace("|", "\\|")
    length = "minLength" in field or "maxLength" in field
    least, most = field.get("minLength", field.get("minimum")), field.get("maxLength", field.get("maximum"))
    unit = " characters" if length else ""
    if most is None:
        return "" if least is None else f", {least}{unit} or more"
    return f", at most {most}{unit}" if least is None else f", {least} to {most}{unit}"


def _anchor(heading: str) -> str:
    return "".join(c for c in heading.lower() if c.isalnum() or c in "_-")


if __name__ == "__main__":
    sys.exit(print_or_check("tools.docs.event_catalogue", page(), "the contracts"))
