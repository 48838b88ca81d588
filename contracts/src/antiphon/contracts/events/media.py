"""Events of tracks, connection quality, data and files."""

from typing import ClassVar

from antiphon.contracts.event import Bytes, Count, Event, Family, PersonalText, Seconds


class TrackEvent(Event, frozen=True, kw_only=True):
    """An event about one track."""

    FAMILY: ClassVar[Family] = Family.MEDIA

    identity: PersonalText
    participant_sid: str
    track_sid: str
    kind: str
    source: str
    name: str | None = None


class TrackPublished(TrackEvent, frozen=True, kw_only=True):
    """A participant published a track."""

    TYPE: ClassVar[str] = "track_published"


class TrackUnpublished(TrackEvent, frozen=True, kw_only=True):
    """A participant unpublished a track."""

    TYPE: ClassVar[str] = "track_unpublished"


class TrackSubscribed(TrackEvent, frozen=True, kw_only=True):
    """The agent subscribed to a track."""

    TYPE: ClassVar[str] = "track_subscribed"


class TrackUnsubscribed(TrackEvent, frozen=True, kw_only=True):
    """The agent unsubscribed from a track."""

    TYPE: ClassVar[str] = "track_unsubscribed"


class TrackMuted(TrackEvent, frozen=True, kw_only=True):
    """A track was muted."""

    TYPE: ClassVar[str] = "track_muted"


class TrackUnmuted(TrackEvent, frozen=True, kw_only=True):
    """A track was unmuted."""

    TYPE: ClassVar[str] = "track_unmuted"


class TrackSubscriptionFailed(Event, frozen=True, kw_only=True):
    """The agent could not subscribe to a track, so it does not receive its audio or video."""

    TYPE: ClassVar[str] = "track_subscription_failed"
    FAMILY: ClassVar[Family] = Family.MEDIA

    identity: PersonalText
    participant_sid: str
    track_sid: str
    error: str


class Reconnecting(Event, frozen=True, kw_only=True):
    """The agent lost its connection to the room and is trying to restore it."""

    TYPE: ClassVar[str] = "reconnecting"
    FAMILY: ClassVar[Family] = Family.MEDIA


class Reconnected(Event, frozen=True, kw_only=True):
    """The agent restored its connection to the room."""

    TYPE: ClassVar[str] = "reconnected"
    FAMILY: ClassVar[Family] = Family.MEDIA

    gap_seconds: Seconds | None = None


class SipDtmfReceived(Event, frozen=True, kw_only=True):
    """A caller pressed a key of the telephone."""

    TYPE: ClassVar[str] = "sip_dtmf_received"
    FAMILY: ClassVar[Family] = Family.MEDIA

    code: Count
    digit: PersonalText
    identity: PersonalText | None = None


class ActiveSpeakersChanged(Event, frozen=True, kw_only=True):
    """The set of participants who are speaking changed."""

    TYPE: ClassVar[str] = "active_speakers_changed"
    FAMILY: ClassVar[Family] = Family.MEDIA

    identities: list[PersonalText]


class ConnectionQualityChanged(Event, frozen=True, kw_only=True):
    """The quality of a participant's connection changed."""

    TYPE: ClassVar[str] = "connection_quality_changed"
    FAMILY: ClassVar[Family] = Family.MEDIA

    identity: PersonalText
    participant_sid: str
    quality: str


class RoomMetadataChanged(Event, frozen=True, kw_only=True):
    """The room's metadata changed."""

    TYPE: ClassVar[str] = "room_metadata_changed"
    FAMILY: ClassVar[Family] = Family.MEDIA

    old_metadata: PersonalText
    metadata: PersonalText


class DataReceived(Event, frozen=True, kw_only=True):
    """A participant sent data packets; their payload is not stored.

    Packets of one sender and topic within a second are counted together; `size_bytes` is their total.
    """

    TYPE: ClassVar[str] = "data_received"
    FAMILY: ClassVar[Family] = Family.MEDIA

    size_bytes: Bytes
    packets: Count = 1
    kind: str
    topic: str | None = None
    identity: PersonalText | None = None


class FileReceived(Event, frozen=True, kw_only=True):
    """A participant sent a file, which was stored."""

    TYPE: ClassVar[str] = "file.received"
    FAMILY: ClassVar[Family] = Family.MEDIA

    name: PersonalText
    mime_type: str
    size_bytes: Bytes
    object_key: str
    topic: str | None = None
    identity: PersonalText | None = None


class RecordingSaved(Event, frozen=True, kw_only=True):
    """The audio recording of the session was stored."""

    TYPE: ClassVar[str] = "recording.saved"
    FAMILY: ClassVar[Family] = Family.MEDIA

    object_key: str
    mime_type: str
    size_bytes: Bytes
    duration_seconds: Seconds
