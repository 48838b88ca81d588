"""JSON Schemas of all events and of heartbeats, from their structs, and the check for breaking changes."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import msgspec

from antiphon.contracts.envelope import SCHEMA_BASE, Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.workers import WorkerHeartbeat

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def file_name(event: type[Event], version: int | None = None) -> str:
    """Return the file name of an event's schema, in its newest version by default."""
    return f"{event.TYPE}.v{version or event.VERSION}.schema.json"


def event_schema(event: type[Event]) -> Schema:
    """Return the schema of an event's body, with its family, its version and its personal fields marked."""
    (root,), definitions = msgspec.json.schema_components([event], ref_template="#/$defs/{name}")
    name = root["$ref"].rpartition("/")[2]
    body = definitions.pop(name)
    schema: Schema = {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}/{event.TYPE}/{event.VERSION}",
        **body,
        "title": event.TYPE,
        "x-family": str(event.FAMILY),
        "x-version": event.VERSION,
    }
    if definitions:
        schema["$defs"] = definitions
    return schema


def envelope_schema() -> Schema:
    """Return the schema of the envelope; its `data` is any object."""
    (_,), definitions = msgspec.json.schema_components([Envelope], ref_template="#/$defs/{name}")
    body = definitions["Envelope"]
    body["properties"]["data"] = {"type": "object"}
    # before Python 3.13 a docstring keeps its indentation
    body["description"] = cleandoc(body["description"])
    return {"$schema": DIALECT, "$id": f"{SCHEMA_BASE}/envelope/1", **body, "title": "Envelope"}


def heartbeat_schema() -> Schema:
    """Return the schema of a worker's heartbeat."""
    (_,), definitions = msgspec.json.schema_components([WorkerHeartbeat])
    body = definitions["WorkerHeartbeat"]
    return {
        "$schema": DIALECT,
        "$id": f"{SCHEMA_BASE}/worker.heartbeat/1",
        **body,
        "title": "WorkerHeartbeat",
    }


def schema_files() -> dict[str, Schema]:
    """Return every schema by file name."""
    files = {file_name(event): event_schema(event) for event in EVENTS}
    return {
        "envelope.v1.schema.json": envelope_schema(),
        "worker.heartbeat.v1.schema.json": heartbeat_schema(),
        **files,
    }


def older_files() -> list[str]:
    """Return the file names of the schemas of older versions."""
    return [file_name(event, number) for event in EVENTS for number in range(1, event.VERSION)]


def breaking_changes(old: Schema, new: Schema, where: str = "") -> Iterator[str]:
    """Describe each change that breaks stored events or existing readers.

    A new optional field and a changed description break nothing. A new enum value does: a reader of before
    refuses the event, while it stores one of a newer version.
    """
    yield from _broken_members(old, new, where)
    for keyword in sorted((old.keys() | new.keys()) - _COMPARED_BY_MEMBER - _FREE_TO_CHANGE):
        if old.get(keyword) != new.get(keyword):
            yield f"{where or '/'}: {keyword} was {old.get(keyword)!r}, is {new.get(keyword)!r}"
    for name in sorted(new.get("required", [])):
        if name not in old.get("required", []):
            yield f"{where}/{name}: became required"
    before, after = set(old.get("enum", [])), set(new.get("enum", []))
    for value in sorted(before - after, key=str):
        yield f"{where or '/'}: {value!r} is no longer allowed"
    for value in sorted(after - before, key=str) if before else ():
        yield f"{where or '/'}: {value!r} is new, and refused by readers of before"


_COMPARED_BY_MEMBER = {"properties", "$defs", "required", "enum", "items", "additionalProperties"}
_FREE_TO_CHANGE = {"description", "title", "default", "x-pii", "$schema"}


def _broken_members(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for group in ("properties", "$defs"):
        for name, before in old.get(group, {}).items():
            after = new.get(group, {}).get(name)
            if after is None:
                yield f"{where}/{name}: was removed"
            else:
                yield from breaking_changes(before, after, f"{where}/{name}")
    for keyword in ("items", "additionalProperties"):
        before, after = old.get(keyword), new.get(keyword)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from breaking_changes(before, after, f"{where}/{keyword}")
        elif before != after:
            yield f"{where or '/'}: {keyword} changed"
