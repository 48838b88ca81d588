"""LiveKit's webhooks: parsed from protobuf JSON (64-bit numbers are strings), mapped to events."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from antiphon.contracts.events.livekit import LiveKitOther, LiveKitWebhook
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.validate import is_nested_deeper


class MalformedWebhook(Exception):
    """The body is not a LiveKit webhook."""


MAX_LEVELS = 90  # of nesting; the log takes 100 with the rest of the event
MAX_ID = 200  # characters; it is part of the event's id
_valid_id = re.compile(f"[!-~]{{1,{MAX_ID}}}").fullmatch
_TOO_DEEP = f"nested deeper than {MAX_LEVELS} levels"
_YEAR_10000 = 253_402_300_800  # Unix seconds; the end of the range of datetime
UnixSeconds = Annotated[int, Meta(ge=0, lt=_YEAR_10000)]


class _Named(Struct, rename="camel"):
    name: str = ""
    sid: str = ""
    metadata: str = ""
    creation_time: int = 0  # seconds
    creation_time_ms: int = 0


class _Participant(Struct, rename="camel"):
    identity: str | None = None
    sid: str | None = None


class _Track(Struct, rename="camel"):
    sid: str | None = None


class _Egress(Struct, rename="camel"):
    room_name: str = ""
    room_id: str = ""


class _IngressState(Struct, rename="camel"):
    room_id: str = ""


class _Ingress(Struct, rename="camel"):
    room_name: str = ""
    state: _IngressState = msgspec.field(default_factory=_IngressState)


class _Job(Struct, rename="camel"):
    room: _Named = msgspec.field(default_factory=_Named)


class Webhook(Struct, rename="camel"):
    """The fields of a webhook that are mapped to an event."""

    id: str
    event: str
    created_at: UnixSeconds = 0
    num_dropped: int = 0
    room: _Named = msgspec.field(default_factory=_Named)
    participant: _Participant = msgspec.field(default_factory=_Participant)
    track: _Track = msgspec.field(default_factory=_Track)
    egress_info: _Egress = msgspec.field(default_factory=_Egress)
    ingress_info: _Ingress = msgspec.field(default_factory=_Ingress)
    job: _Job = msgspec.field(default_factory=_Job)

    @property
    def room_name(self) -> str:
        """The name of the room that the webhook is about; "" for none."""
        return (
            self.room.name or self.egress_info.room_name or self.ingress_info.room_name or self.job.room.name
        )

    @property
    def room_sid(self) -> str:
        """The sid of the room; "" for none, and for an ingress that is in no room yet."""
        return (
            self.room.sid or self.egress_info.room_id or self.ingress_info.state.room_id or self.job.room.sid
        )

    @property
    def room_metadata(self) -> str:
        """The room's metadata; "" in webhooks of tracks, which lack it."""
        return self.room.metadata or self.job.room.metadata

    def occurred_at(self, now: datetime) -> datetime:
        """Return the time of the webhook in whole seconds, or `now` when it has none."""
        return datetime.fromtimestamp(self.created_at, UTC) if self.created_at > 0 else now


_SECRETS = ("turnPassword",)


def without_secrets(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload without the secrets of its rooms: the password of the TURN server."""
    clean = dict(payload)
    for name in ("room", "job"):
        if isinstance(clean.get(name), dict):
            clean[name] = {k: v for k, v in without_secrets(clean[name]).items() if k not in _SECRETS}
    return clean


_payload = msgspec.json.Decoder(dict[str, Any])


def parse(body: bytes) -> tuple[Webhook, dict[str, Any]]:
    """Parse a webhook; return its mapped fields and the payload without secrets.

    Raises MalformedWebhook.
    """
    try:
        payload = _payload.decode(body)
        if is_nested_deeper(body.decode(), MAX_LEVELS):
            raise MalformedWebhook(_TOO_DEEP)
        webhook = msgspec.convert(payload, Webhook, strict=False)  # numbers may be strings
        clean = without_secrets(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedWebhook(str(error)) from error
    except RecursionError as error:
        raise MalformedWebhook(_TOO_DEEP) from error
    if not webhook.id or not webhook.event:
        raise MalformedWebhook("a webhook needs an id and an event")
    if _valid_id(webhook.id) is None:
        raise MalformedWebhook(f"its id is not 1 to {MAX_ID} visible ASCII characters")
    return webhook, clean


_PREFIX = "livekit."
_BY_NAME: Mapping[str, type[LiveKitWebhook]] = MappingProxyType(
    {
        event.TYPE.removeprefix(_PREFIX): event
        for event in EVENTS
        if issubclass(event, LiveKitWebhook) and event is not LiveKitOther
    }
)


def as_event(webhook: Webhook, payload: dict[str, Any]) -> LiveKitWebhook:
    """Return the event of a webhook; kinds missing from the catalogue become `livekit.other`."""
    fields: dict[str, Any] = {
        "webhook_id": webhook.id,
        "room": webhook.room_name,
        "payload": payload,
        "room_sid": webhook.room_sid or None,
        "participant_identity": webhook.participant.identity,
        "participant_sid": webhook.participant.sid,
        "track_sid": webhook.track.sid,
        "dropped": webhook.num_dropped,
    }
    known = _BY_NAME.get(webhook.event)
    return LiveKitOther(name=webhook.event, **fields) if known is None else known(**fields)
