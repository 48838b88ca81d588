"""A webhook becomes an event of the session whose room it is about."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from antiphon.contracts.events.livekit import LiveKitOther, LiveKitWebhook
from antiphon.contracts.registry import EVENTS
from antiphon.webhook_ingest.webhook import Webhook

_PREFIX = "livekit."
_BY_NAME: Mapping[str, type[LiveKitWebhook]] = MappingProxyType(
    {
        event.TYPE.removeprefix(_PREFIX): event
        for event in EVENTS
        if issubclass(event, LiveKitWebhook) and event is not LiveKitOther
    }
)


def as_event(webhook: Webhook, payload: dict[str, Any]) -> LiveKitWebhook:
    """Return the event; a kind that the catalogue does not name is kept as `livekit.other`."""
    fields: dict[str, Any] = {
        "webhook_id": webhook.id,
        "room": webhook.room_name,
        "payload": payload,
        "room_sid": webhook.room.sid or webhook.job.room.sid or None,
        "participant_identity": webhook.participant.identity,
        "participant_sid": webhook.participant.sid,
        "track_sid": webhook.track.sid,
        "dropped": webhook.num_dropped,
    }
    known = _BY_NAME.get(webhook.event)
    return LiveKitOther(name=webhook.event, **fields) if known is None else known(**fields)
