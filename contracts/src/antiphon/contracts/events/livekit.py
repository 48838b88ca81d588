"""Events made from LiveKit's webhooks."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from antiphon.contracts.event import Event, Family

Payload = Annotated[
    dict[str, Any],
    Meta(description="the webhook's JSON, whole", extra_json_schema={"x-pii": True}),
]


class LiveKitWebhook(Event, frozen=True, kw_only=True):
    """One webhook of LiveKit."""

    FAMILY: ClassVar[Family] = Family.LIVEKIT

    webhook_id: str
    room: str
    payload: Payload
    room_sid: str | None = None
    participant_identity: Annotated[str | None, Meta(extra_json_schema={"x-pii": True})] = None
    participant_sid: str | None = None
    track_sid: str | None = None
    dropped: int = 0


class LiveKitRoomStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit opened the room."""

    TYPE: ClassVar[str] = "livekit.room_started"


class LiveKitRoomFinished(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit closed the room."""

    TYPE: ClassVar[str] = "livekit.room_finished"


class LiveKitParticipantJoined(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a participant become active."""

    TYPE: ClassVar[str] = "livekit.participant_joined"


class LiveKitParticipantLeft(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a participant leave."""

    TYPE: ClassVar[str] = "livekit.participant_left"


class LiveKitParticipantConnectionAborted(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a connection break before it was up."""

    TYPE: ClassVar[str] = "livekit.participant_connection_aborted"


class LiveKitTrackPublished(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a track published."""

    TYPE: ClassVar[str] = "livekit.track_published"


class LiveKitTrackUnpublished(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a track withdrawn."""

    TYPE: ClassVar[str] = "livekit.track_unpublished"


class LiveKitEgressStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """An egress began."""

    TYPE: ClassVar[str] = "livekit.egress_started"


class LiveKitEgressUpdated(LiveKitWebhook, frozen=True, kw_only=True):
    """An egress changed."""

    TYPE: ClassVar[str] = "livekit.egress_updated"


class LiveKitEgressEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """An egress ended."""

    TYPE: ClassVar[str] = "livekit.egress_ended"


class LiveKitIngressStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """An ingress began."""

    TYPE: ClassVar[str] = "livekit.ingress_started"


class LiveKitIngressEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """An ingress ended."""

    TYPE: ClassVar[str] = "livekit.ingress_ended"


class LiveKitAgentJobPending(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit waits for a worker to take the job."""

    TYPE: ClassVar[str] = "livekit.agent_job_pending"


class LiveKitAgentJobStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit gave a job to a worker."""

    TYPE: ClassVar[str] = "livekit.agent_job_started"


class LiveKitAgentJobEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit saw a job end."""

    TYPE: ClassVar[str] = "livekit.agent_job_ended"


class LiveKitOther(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit sent a webhook of a kind that this catalogue does not name yet."""

    TYPE: ClassVar[str] = "livekit.other"

    name: str
