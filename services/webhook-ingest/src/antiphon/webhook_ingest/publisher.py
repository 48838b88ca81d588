"""Verify a webhook, map it to an event, publish it."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import structlog

from antiphon.chassis.bus import Bus, GroupCommit, outgoing
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.chassis.tracing import current_traceparent, publishing
from antiphon.contracts.envelope import seal
from antiphon.contracts.ids import webhook_event_id
from antiphon.contracts.streams import SESSIONS
from antiphon.webhook_ingest.ended_rooms import EndedRooms
from antiphon.webhook_ingest.metrics import webhooks
from antiphon.webhook_ingest.rooms import RoomSessions, other_deployment
from antiphon.webhook_ingest.signatures import verified_digest, verify_body
from antiphon.webhook_ingest.webhook import Webhook, as_event, parse

PRODUCER = "webhook-ingest"

log = structlog.get_logger(__name__)

# LiveKit sends a webhook again 1, 3, 7 and 15 seconds after the first time, and those of the same room wait
# behind it: a recorder has this long to adopt a room. Then the room is not a session, for now.
ADOPTION_SECONDS = 12.0
REPORTED_DEPLOYMENTS = 100
# LiveKit does not send these behind the start of their room: they have queues of their own.
WAITING = ("room_started", "egress_", "ingress_")


class RoomNotYetAdopted(Exception):
    """A young room may become a session: LiveKit is to send this webhook again."""


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
        deployment: str,
        keys: LiveKitKeys,
        clock: Callable[[], datetime],
        timeout_seconds: float,
        ended_rooms: EndedRooms | None = None,
    ) -> None:
        self._group = GroupCommit(bus, timeout_seconds=timeout_seconds)
        self._sessions = RoomSessions(bus)
        self._deployment = deployment
        self._reported: set[str] = set()  # other deployments
        self._keys = keys
        self._clock = clock
        self._ended_rooms = ended_rooms

    def verify(self, authorization: str) -> bytes:
        """Verify the token of a webhook before its body is read; return the SHA-256 that the body must have.

        Raises BadSignature.
        """
        return verified_digest(authorization, self._keys.accepted)

    async def publish(self, body: bytes, digest: bytes) -> Outcome:
        """Publish one webhook; return NOT_OURS for a room that is not a session.

        Raises BadSignature, MalformedWebhook, RoomNotYetAdopted, BusUnavailable, PayloadTooLarge.
        """
        verify_body(body, digest)
        webhook, payload = parse(body)
        if owner := other_deployment(webhook.room_metadata, self._deployment):
            self._report(owner)
            return self._ignored(webhook)
        session = await self._sessions.of_room(webhook.room_name, webhook.room_sid, webhook.room_metadata)
        if session is None:
            self._wait_for_adoption(webhook)
            return self._ignored(webhook)
        with publishing(SESSIONS.name):
            envelope = seal(
                as_event(webhook, payload),
                id=webhook_event_id(webhook.id),
                session_id=session.session_id,
                tenant=session.tenant,
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
            session_id=session.session_id,
            tenant=session.tenant,
            position=ack.position,
            duplicate=ack.duplicate,
        )
        if self._ended_rooms is not None:
            self._ended_rooms.look(webhook, session)
        return _counted(Outcome.PUBLISHED)

    def _report(self, owner: str) -> None:
        if owner in self._reported or len(self._reported) >= REPORTED_DEPLOYMENTS:
            return
        self._reported.add(owner)
        log.warning(
            "webhook.of_another_deployment",
            deployment=owner,
            own=self._deployment,
            effect="its webhooks are ignored; if no other one uses this LiveKit server, the identity of this "
            "one has changed: restart every service",
        )

    def _wait_for_adoption(self, webhook: Webhook) -> None:
        if not webhook.event.startswith(WAITING):
            return  # it waited behind that of its room's start
        if not webhook.room_sid:
            return  # an ingress that is in no room yet
        age = self._clock() - webhook.occurred_at(self._clock())
        if abs(age.total_seconds()) < ADOPTION_SECONDS:
            webhooks.add(1, "deferred")
            raise RoomNotYetAdopted("no session has this room yet")

    def _ignored(self, webhook: Webhook) -> Outcome:
        fields = {"webhook_id": webhook.id, "pii.room": webhook.room_name}
        log.info("webhook.ignored", webhook=webhook.event, **fields)
        return _counted(Outcome.NOT_OURS)


def _counted(outcome: Outcome) -> Outcome:
    webhooks.add(1, outcome.value)
    return outcome
