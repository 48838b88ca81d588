"""The schemas of the OpenAPI document: those of the structs that are sent, and one for each event type."""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct, UnsetType

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import FaultSide
from antiphon.contracts.flows import FlowRevision
from antiphon.contracts.ids import SESSION_ID_PATTERN, TENANT_PATTERN
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.session import Session
from antiphon.contracts.views import STATE_COLUMNS, TurnView
from antiphon.session_api.analytics.figures import DailyFigures, TimelineItem, UsageFigures
from antiphon.session_api.audit_records import AuditEntry
from antiphon.session_api.flows.difference import FlowDifference
from antiphon.session_api.flows.known import Flow
from antiphon.session_api.problem_pages import ProblemList
from antiphon.session_api.problem_types import ProblemDocument
from antiphon.session_api.sessions.filters import REASONS

Schema = dict[str, Any]

_TEMPLATE = "#/components/schemas/{name}"
_SENT: tuple[type[Struct], ...] = (
    Session,
    TurnView,
    DailyFigures,
    UsageFigures,
    TimelineItem,
    Flow,
    FlowRevision,
    FlowDifference,
    AuditEntry,
    ProblemDocument,
    ProblemList,
    Envelope,
)
# Fields of `details` are there unless an older version wrote the row.
_SENT_OF_A_SESSION = frozenset(STATE_COLUMNS) - {"details"}
# What the types of the code do not say about texts.
_TEXTS: Schema = {
    "session_id": {"pattern": SESSION_ID_PATTERN},
    "tenant": {"pattern": TENANT_PATTERN},
    "livekit_url": {"format": "uri"},
    "events_url": {"format": "uri-reference"},
}
_INSTANT = {"format": "date-time"}
FAULTS = [side.value for side in FaultSide]


def reference(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": _TEMPLATE.format(name=name)}


def page_of(noun: str, item: str) -> Schema:
    """Return the schema of a page of a list."""
    return {
        "type": "object",
        "required": [noun, "next"],
        "properties": {
            noun: {"type": "array", "items": reference(item)},
            "next": {
                "type": ["string", "null"],
                "description": "the `cursor` of the next page; null on the last page",
            },
        },
    }


EVENT_PAGE: Schema = {
    "type": "object",
    "required": ["items", "next", "more"],
    "properties": {
        "items": {"type": "array", "items": reference("Event")},
        "next": {"type": "string", "description": "the `after` of the next page; always there"},
        "more": {
            "type": "boolean",
            "description": "whether there are more after `next` now; a page may be empty and have more",
        },
    },
}


def schemas(of_requests: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return every schema by name: those that FastAPI found, and those of what is sent."""
    references, found = msgspec.json.schema_components((*_SENT, *EVENTS), ref_template=_TEMPLATE)
    names = [entry["$ref"].rpartition("/")[2] for entry in references]
    for struct, name in zip(_SENT, names, strict=False):
        found[name]["required"] = [
            encoded
            for field, encoded in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
            if _is_sent(struct, field)
        ]
    bodies = dict(zip(EVENTS, names[len(_SENT) :], strict=True))
    variants = {_event_name(event): _event(event, body) for event, body in bodies.items()}
    all_schemas = {name: _readable(schema) for name, schema in {**of_requests, **found}.items()}
    all_schemas["Session"]["properties"] |= {
        "reason": {"enum": [None, *REASONS], "description": "why the session ended"},
        "fault": {"enum": [None, *FAULTS], "description": "the side that caused an abnormal end"},
    }
    all_schemas["Envelope"]["required"] += [
        "sequence",
        "position",
    ]  # every event that the API sends is committed
    all_schemas["Envelope"]["properties"]["data"] = {
        "type": "object",
        "description": "described by `dataschema`",
    }
    return {
        **all_schemas,
        **variants,
        "Event": {
            "description": "A committed event. Newer versions may add types: ignore those you do not know.",
            "oneOf": [reference(name) for name in variants],
            "discriminator": {
                "propertyName": "type",
                "mapping": {event.TYPE: reference(_event_name(event))["$ref"] for event in EVENTS},
            },
        },
        "SessionList": page_of("sessions", "Session"),
        "TurnList": page_of("turns", "TurnView"),
        "TimelineList": page_of("timeline", "TimelineItem"),
        "DailyList": page_of("days", "DailyFigures"),
        "UsageList": page_of("usage", "UsageFigures"),
        "EventList": page_of("events", "Event"),
        "EventPage": EVENT_PAGE,
        "FlowList": page_of("flows", "Flow"),
        "FlowRevisionList": page_of("revisions", "Flow"),
        "KeyList": page_of("keys", "KeyView"),
        "AuditList": page_of("audit", "AuditEntry"),
    }


def _is_sent(struct: type[Struct], field: str) -> bool:
    if struct is Session:
        return field in _SENT_OF_A_SESSION
    return UnsetType not in get_args(get_type_hints(struct)[field])


def _event_name(event: type[Event]) -> str:
    return f"{event.__name__}Event"


def _event(event: type[Event], body: str) -> Schema:
    return {
        "title": event.TYPE,
        "description": cleandoc(event.__doc__ or ""),
        "allOf": [
            reference("Envelope"),
            {
                "type": "object",
                "required": ["type", "data"],
                "properties": {"type": {"const": event.TYPE}, "data": reference(body)},
            },
        ],
    }


def _readable(schema: Schema) -> Schema:
    """Add what the types do not say, and remove the indentation of docstrings before Python 3.13."""
    if "description" in schema:
        schema["description"] = cleandoc(schema["description"])
    for name, declared in schema.get("properties", {}).items():
        more = _INSTANT if name.endswith("_at") else _TEXTS.get(name, {})
        for text in (declared, *declared.get("anyOf", ())):
            if text.get("type") == "string":
                text.update(more)
    return schema
