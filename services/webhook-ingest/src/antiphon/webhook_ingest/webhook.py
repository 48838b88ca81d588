"""LiveKit's webhooks as it writes them: protobuf JSON, names in camelCase, 64-bit numbers as strings."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct


class MalformedWebhook(Exception):
    """The body is not a webhook of LiveKit."""


_YEAR_10000 = 253_402_300_800  # unix seconds: a datetime goes no further
UnixSeconds = Annotated[int, Meta(ge=0, lt=_YEAR_10000)]


class _Named(Struct, rename="camel"):
    name: str = ""
    sid: str = ""
    metadata: str = ""


class _Participant(Struct, rename="camel"):
    identity: str | None = None
    sid: str | None = None


class _Track(Struct, rename="camel"):
    sid: str | None = None


class _Media(Struct, rename="camel"):
    room_name: str = ""


class _Job(Struct, rename="camel"):
    room: _Named = msgspec.field(default_factory=_Named)


class Webhook(Struct, rename="camel"):
    """Hold what is read of a webhook; `payload` is all of it."""

    id: str
    event: str
    created_at: UnixSeconds = 0
    num_dropped: int = 0
    room: _Named = msgspec.field(default_factory=_Named)
    participant: _Participant = msgspec.field(default_factory=_Participant)
    track: _Track = msgspec.field(default_factory=_Track)
    egress_info: _Media = msgspec.field(default_factory=_Media)
    ingress_info: _Media = msgspec.field(default_factory=_Media)
    job: _Job = msgspec.field(default_factory=_Job)

    @property
    def room_name(self) -> str:
        """Return the name of the room that the webhook is about; "" when it is about none."""
        return (
            self.room.name or self.egress_info.room_name or self.ingress_info.room_name or self.job.room.name
        )

    @property
    def room_metadata(self) -> str:
        """Return the room's metadata; the webhooks of tracks do not carry it."""
        return self.room.metadata or self.job.room.metadata

    def occurred_at(self, now: datetime) -> datetime:
        """Return when it happened, to LiveKit's whole second; `now` when the webhook does not say."""
        return datetime.fromtimestamp(self.created_at, UTC) if self.created_at > 0 else now


# What opens something has no place on a log: the password of the room's TURN server.
_SECRETS = ("turnPassword",)


def without_secrets(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload less the secrets of its rooms."""
    clean = dict(payload)
    for name in ("room", "job"):
        if isinstance(clean.get(name), dict):
            clean[name] = {k: v for k, v in without_secrets(clean[name]).items() if k not in _SECRETS}
    return clean


# Lax: the numbers are text. Fields that are not named here are left alone.
_payload = msgspec.json.Decoder(dict[str, Any])


def parse(body: bytes) -> tuple[Webhook, dict[str, Any]]:
    """Read a webhook, and all that it says but for secrets.

    Raises MalformedWebhook.
    """
    try:
        payload = _payload.decode(body)
        webhook = msgspec.convert(payload, Webhook, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedWebhook(str(error)) from error
    if not webhook.id or not webhook.event:
        raise MalformedWebhook("a webhook has an id and an event")
    return webhook, without_secrets(payload)
