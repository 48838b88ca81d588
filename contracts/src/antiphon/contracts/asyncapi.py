"""The catalogue as an AsyncAPI 3.0 document: channels by family, one message per event."""

from typing import Any

from antiphon.contracts.event import Event, Family
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.schemas import envelope_schema, event_schema, heartbeat_schema

Node = dict[str, Any]

# Which services publish events of a family; any service may subscribe.
PRODUCERS: dict[Family, tuple[str, ...]] = {
    Family.SESSION: ("session-api", "agent-worker"),
    Family.AGENT: ("agent-worker",),
    Family.TURN: ("agent-worker",),
    Family.TOOL: ("agent-worker",),
    Family.PARTICIPANT: ("agent-worker",),
    Family.MEDIA: ("agent-worker",),
    Family.USAGE: ("agent-worker",),
    Family.COMMAND: ("session-api", "agent-worker"),
    Family.LIVEKIT: ("webhook-ingest",),
}

_PARAMETERS: Node = {
    "partition": {"description": "CRC-32 of the session id, modulo 16"},
    "tenant": {"description": "The tenant that owns the session"},
    "session": {"description": "The id of the session"},
}


def document(version: str) -> Node:
    """Return the AsyncAPI document for a version of the contracts."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Antiphon events",
            "version": version,
            "description": "Every event of a voice session, on NATS JetStream, as CloudEvents 1.0 in JSON.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"embedded": {"host": "127.0.0.1:4222", "protocol": "nats"}},
        "channels": {
            **{family.value: _channel(family) for family in Family},
            "committed": _committed(),
            "workers": _workers(),
        },
        "operations": _operations(),
        "components": {
            "messages": {event.TYPE: _message(event) for event in EVENTS},
            "schemas": {"envelope": _without_id(envelope_schema())}
            | {event.TYPE: _without_id(event_schema(event)) for event in EVENTS}
            | {"worker.heartbeat": _without_id(heartbeat_schema())},
        },
    }


def _channel(family: Family) -> Node:
    members = [event for event in EVENTS if event.FAMILY is family]
    return {
        "address": f"sessions.{{partition}}.{{tenant}}.{{session}}.{family}",
        "description": f"Events of the family `{family}`, in stream SESSIONS.",
        "parameters": _PARAMETERS,
        "messages": {event.TYPE: {"$ref": f"#/components/messages/{event.TYPE}"} for event in members},
    }


def _committed() -> Node:
    return {
        "address": "committed.{partition}.{tenant}.{session}",
        "description": "Core NATS, not stored: the envelopes that one commit added to a session, in order.",
        "parameters": _PARAMETERS,
        "messages": {
            "committed": {
                "name": "committed",
                "contentType": "application/json",
                "payload": {"type": "array", "items": {"$ref": "#/components/schemas/envelope"}},
            }
        },
    }


def _workers() -> Node:
    return {
        "address": "live.workers.{worker}",
        "description": "Core NATS, not stored: the calls of a worker, every second and at each change.",
        "parameters": {"worker": {"description": "The id of the worker, new at each start"}},
        "messages": {
            "heartbeat": {
                "name": "heartbeat",
                "contentType": "application/json",
                "payload": {"$ref": "#/components/schemas/worker.heartbeat"},
            }
        },
    }


def _operations() -> Node:
    sends = {
        f"{producer}.sends.{family}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{family}"},
            "summary": f"{producer} publishes events of the family `{family}`",
        }
        for family, producers in PRODUCERS.items()
        for producer in producers
    }
    receives = {
        f"persistence.receives.{family}": {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{family}"},
            "summary": f"persistence commits events of the family `{family}` to the event log",
        }
        for family in Family
    }
    announce: Node = {
        "action": "send",
        "channel": {"$ref": "#/channels/committed"},
        "summary": "persistence announces the events of a commit",
    }
    beat: Node = {
        "action": "send",
        "channel": {"$ref": "#/channels/workers"},
        "summary": "agent-worker says how many calls it has",
    }
    hear: Node = {
        "action": "receive",
        "channel": {"$ref": "#/channels/workers"},
        "summary": "fleet counts the calls of all workers",
    }
    return (
        sends
        | receives
        | {
            "persistence.announces": announce,
            "agent-worker.sends.workers": beat,
            "fleet.receives.workers": hear,
        }
    )


def _message(event: type[Event]) -> Node:
    return {
        "name": event.TYPE,
        "title": f"{event.TYPE}, version {event.VERSION}",
        "summary": (event.__doc__ or "").strip(),
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/envelope"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event.TYPE},
                        "data": {"$ref": f"#/components/schemas/{event.TYPE}"},
                    },
                },
            ]
        },
    }


def _without_id(schema: Node) -> Node:
    """Drop the schema's id and point its references to its place in the document."""
    here = f"#/components/schemas/{schema['title'] if schema['title'] != 'Envelope' else 'envelope'}/$defs/"
    return {k: _rebased(v, here) for k, v in schema.items() if k not in {"$schema", "$id"}}


def _rebased(node: Any, here: str) -> Any:
    if isinstance(node, dict):
        return {
            k: v.replace("#/$defs/", here) if k == "$ref" and isinstance(v, str) else _rebased(v, here)
            for k, v in node.items()
        }
    return [_rebased(item, here) for item in node] if isinstance(node, list) else node
