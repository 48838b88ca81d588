"""Verify a webhook, map it to an event, publish it."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import structlog
from opentelemetry import metrics

from antiphon.chassis.bus import Bus, GroupCommit, outgoing
from antiphon.chassis.tracing import current_traceparent
from antiphon.contracts.envelope import seal
from antiphon.contracts.ids import webhook_event_id
from antiphon.webhook_ingest.signatures import verify
from antiphon.webhook_ingest.tenants import Tenants
from antiphon.webhook_ingest.webhook import as_event, parse

PRODUCER = "webhook-ingest"

log = structlog.get_logger(__name__)
_webhooks = metrics.get_meter(PRODUCER).create_counter(
    "antiphon.webhooks", unit="{webhook}", description="Webhooks received, by outcome"
)


class Outcome(StrEnum):
    """The outcome of a valid webhook."""

    PUBLISHED = "published"
    NOT_OURS = "not_ours"


class WebhookPublisher:
    """Publisher of LiveKit's webhooks; a webhook delivered twice becomes one event."""

    def __init__(
        self,
        bus: Bus,
        *,
        api_key: str,
        api_secret: str,
        clock: Callable[[], datetime],
        timeout_seconds: float,
    ) -> None:
        self._group = GroupCommit(bus, timeout_seconds=timeout_seconds)
        self._tenants = Tenants(bus)
        self._api_key = api_key
        self._api_secret = api_secret
        self._clock = clock

    async def publish(self, body: bytes, authorization: str) -> Outcome:
        """Publish one webhook; return NOT_OURS for a room that is not a session.

        Raises BadSignature, MalformedWebhook, BusUnavailable, PayloadTooLarge.
        """
        verify(body, authorization, api_key=self._api_key, api_secret=self._api_secret)
        webhook, payload = parse(body)
        tenant = await self._tenants.of_room(webhook.room_name, webhook.room_metadata)
        if tenant is None:
            fields = {"webhook_id": webhook.id, "pii.room": webhook.room_name}
            log.info("webhook.ignored", webhook=webhook.event, **fields)
            return self._counted(webhook.event, Outcome.NOT_OURS)
        envelope = seal(
            as_event(webhook, payload),
            id=webhook_event_id(webhook.id),
            session_id=webhook.room_name,
            tenant=tenant,
            producer=PRODUCER,
            producerseq=0,  # LiveKit does not number its webhooks
            time=webhook.occurred_at(self._clock()),
            traceparent=current_traceparent(),
        )
        ack = await self._group.publish(outgoing(envelope))
        log.info(
            "webhook.published",
            webhook=webhook.event,
            webhook_id=webhook.id,
            session_id=webhook.room_name,
            tenant=tenant,
            position=ack.position,
            duplicate=ack.duplicate,
        )
        return self._counted(webhook.event, Outcome.PUBLISHED)

    def _counted(self, name: str, outcome: Outcome) -> Outcome:
        _webhooks.add(1, {"webhook": name, "outcome": outcome})
        return outcome
