"""Events mapped from LiveKit's webhooks."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from antiphon.contracts.event import Event, Family, MaybePersonalText, PersonalText

Payload = Annotated[
    dict[str, Any],
    Meta(description="the webhook's JSON, without secrets", extra_json_schema={"x-pii": True}),
]


class LiveKitWebhook(Event, frozen=True, kw_only=True):
    """A webhook sent by LiveKit."""

    FAMILY: ClassVar[Family] = Family.LIVEKIT

    webhook_id: str
    room: PersonalText
    payload: Payload
    room_sid: str | None = None
    participant_identity: MaybePersonalText = None
    participant_sid: str | None = None
    track_sid: str | None = None
    dropped: int = 0


class LiveKitRoomStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit created the room."""

    TYPE: ClassVar[str] = "livekit.room_started"


class LiveKitRoomFinished(LiveKitWebhook, frozen=True, kw_only=True):
    """LiveKit closed the room."""

    TYPE: ClassVar[str] = "livekit.room_finished"


class LiveKitParticipantJoined(LiveKitWebhook, frozen=True, kw_only=True):
    """A participant joined the room and became active, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.participant_joined"


class LiveKitParticipantLeft(LiveKitWebhook, frozen=True, kw_only=True):
    """A participant left the room, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.participant_left"


class LiveKitParticipantConnectionAborted(LiveKitWebhook, frozen=True, kw_only=True):
    """A participant's connection failed before it was established, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.participant_connection_aborted"


class LiveKitTrackPublished(LiveKitWebhook, frozen=True, kw_only=True):
    """A track was published, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.track_published"


class LiveKitTrackUnpublished(LiveKitWebhook, frozen=True, kw_only=True):
    """A track was unpublished, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.track_unpublished"


class LiveKitEgressStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """An egress started."""

    TYPE: ClassVar[str] = "livekit.egress_started"


class LiveKitEgressUpdated(LiveKitWebhook, frozen=True, kw_only=True):
    """The state of an egress changed."""

    TYPE: ClassVar[str] = "livekit.egress_updated"


class LiveKitEgressEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """An egress ended."""

    TYPE: ClassVar[str] = "livekit.egress_ended"


class LiveKitIngressStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """An ingress started."""

    TYPE: ClassVar[str] = "livekit.ingress_started"


class LiveKitIngressEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """An ingress ended."""

    TYPE: ClassVar[str] = "livekit.ingress_ended"


class LiveKitAgentJobPending(LiveKitWebhook, frozen=True, kw_only=True):
    """An agent job is waiting for a worker, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.agent_job_pending"


class LiveKitAgentJobStarted(LiveKitWebhook, frozen=True, kw_only=True):
    """An agent job was assigned to a worker, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.agent_job_started"


class LiveKitAgentJobEnded(LiveKitWebhook, frozen=True, kw_only=True):
    """An agent job ended, as reported by LiveKit."""

    TYPE: ClassVar[str] = "livekit.agent_job_ended"


class LiveKitOther(LiveKitWebhook, frozen=True, kw_only=True):
    """A webhook of a kind that this version of the catalogue does not define."""

    TYPE: ClassVar[str] = "livekit.other"

    name: str
