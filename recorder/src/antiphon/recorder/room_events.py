"""What happens in the room, as events. One handler per event of `rtc.Room`, in one table."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from livekit import rtc
from msgspec.structs import replace

from antiphon.contracts.events.media import (
    ActiveSpeakersChanged,
    ConnectionQualityChanged,
    DataReceived,
    RoomMetadataChanged,
    TrackEvent,
    TrackMuted,
    TrackPublished,
    TrackSubscribed,
    TrackUnmuted,
    TrackUnpublished,
    TrackUnsubscribed,
)
from antiphon.contracts.events.participant import (
    ParticipantAttributesChanged,
    ParticipantConnected,
    ParticipantDisconnected,
    ParticipantMetadataChanged,
)
from antiphon.contracts.events.session import ParticipantSummary
from antiphon.recorder import names
from antiphon.recorder.guard import Faults
from antiphon.recorder.write import Write


class RoomEvents:
    """Write what the room tells, and remember who took part."""

    def __init__(self, room: rtc.Room, write: Write) -> None:
        self.participants: dict[str, ParticipantSummary] = {}  # by sid
        self.left: str | None = None  # why the room let go of the agent
        self.last_departure: str | None = None  # why the last participant left
        self._room = room
        self._write = write
        self._speaking: list[str] = []

    def attach(self, faults: Faults) -> None:
        """Listen to the room from now on."""
        for name, handler in _HANDLERS.items():
            self._room.on(name, faults.guard(name, handler.__get__(self)))
        if self._room.isconnected():
            self.greet_everybody()

    def greet_everybody(self) -> None:
        """Write down who was in the room before us: LiveKit does not announce them."""
        for participant in self._room.remote_participants.values():
            self.on_participant_connected(participant)

    @property
    def present(self) -> bool:
        """Whether anybody but the agent is in the room."""
        return any(summary.left_at is None for summary in self.participants.values())

    def on_connection_state(self, state: int) -> None:
        """Meet those who were there first."""
        if state == rtc.ConnectionState.CONN_CONNECTED:
            self.greet_everybody()

    def on_disconnected(self, reason: int) -> None:
        """Note that the room is gone for us."""
        self.left = names.disconnect_reason(reason)

    def on_participant_connected(self, participant: rtc.RemoteParticipant) -> None:
        """Write down a participant, once per sid."""
        if participant.sid in self.participants:
            return
        kind = names.participant_kind(participant)
        self.participants[participant.sid] = ParticipantSummary(
            identity=participant.identity, kind=kind, joined_at=datetime.now(UTC)
        )
        connected = ParticipantConnected(
            identity=participant.identity,
            sid=participant.sid,
            kind=kind,
            name=participant.name or None,
            metadata=participant.metadata or None,
            attributes=participant.attributes,
        )
        self._write(connected)

    def on_participant_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        """Write down that a participant left, and why."""
        self.on_participant_connected(participant)  # nobody leaves who did not come
        self.last_departure = names.disconnect_reason(participant.disconnect_reason)
        summary = self.participants[participant.sid]
        self.participants[participant.sid] = replace(summary, left_at=datetime.now(UTC))
        disconnected = ParticipantDisconnected(
            identity=participant.identity, sid=participant.sid, kind=summary.kind, reason=self.last_departure
        )
        self._write(disconnected)

    def on_metadata(self, participant: rtc.Participant, old: str, new: str) -> None:
        """Write a change of a participant's metadata."""
        changed = ParticipantMetadataChanged(
            identity=participant.identity, sid=participant.sid, old_metadata=old, metadata=new
        )
        self._write(changed)

    def on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        """Write a change of a participant's attributes; the agent's own repeat its state, which is told."""
        if isinstance(participant, rtc.RemoteParticipant):
            self._write(
                ParticipantAttributesChanged(
                    identity=participant.identity, sid=participant.sid, changed=changed
                )
            )

    def on_published(self, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Write that a track is offered."""
        self._track(TrackPublished, publication, participant)

    def on_unpublished(self, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Write that a track is offered no more."""
        self._track(TrackUnpublished, publication, participant)

    def on_subscribed(
        self, _: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        """Write that the agent hears or sees a track."""
        self.on_participant_connected(participant)
        self._track(TrackSubscribed, publication, participant)

    def on_unsubscribed(
        self, _: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        """Write that the agent hears or sees a track no more."""
        self._track(TrackUnsubscribed, publication, participant)

    def on_muted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        """Write that a track fell silent."""
        self._track(TrackMuted, publication, participant)

    def on_unmuted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        """Write that a track sounds again."""
        self._track(TrackUnmuted, publication, participant)

    def _track(
        self, event: type[TrackEvent], publication: rtc.TrackPublication, participant: rtc.Participant
    ) -> None:
        self._write(
            event(
                identity=participant.identity,
                participant_sid=participant.sid,
                track_sid=publication.sid,
                kind=names.track_kind(publication),
                source=names.track_source(publication),
                name=publication.name or None,
            )
        )

    def on_speakers(self, speakers: list[rtc.Participant]) -> None:
        """Write who speaks now; LiveKit says it again several times a second."""
        identities = sorted(speaker.identity for speaker in speakers)
        if identities != self._speaking:
            self._speaking = identities
            self._write(ActiveSpeakersChanged(identities=identities))

    def on_quality(self, participant: rtc.Participant, quality: rtc.ConnectionQuality) -> None:
        """Write how good a connection is."""
        self._write(
            ConnectionQualityChanged(
                identity=participant.identity,
                participant_sid=participant.sid,
                quality=names.quality(quality),
            )
        )

    def on_room_metadata(self, old: str, new: str) -> None:
        """Write a change of the room's metadata."""
        self._write(RoomMetadataChanged(old_metadata=old, metadata=new))

    def on_data(self, packet: rtc.DataPacket) -> None:
        """Write that data came; the bytes are not ours to keep."""
        sender = packet.participant.identity if packet.participant else None
        self._write(
            DataReceived(
                size_bytes=len(packet.data),
                kind=names.data_kind(packet.kind),
                topic=packet.topic or None,
                identity=sender,
            )
        )


_HANDLERS: Mapping[Any, Callable[..., None]] = {
    "connection_state_changed": RoomEvents.on_connection_state,
    "disconnected": RoomEvents.on_disconnected,
    "participant_connected": RoomEvents.on_participant_connected,
    "participant_disconnected": RoomEvents.on_participant_disconnected,
    "participant_metadata_changed": RoomEvents.on_metadata,
    "participant_attributes_changed": RoomEvents.on_attributes,
    "track_published": RoomEvents.on_published,
    "track_unpublished": RoomEvents.on_unpublished,
    "track_subscribed": RoomEvents.on_subscribed,
    "track_unsubscribed": RoomEvents.on_unsubscribed,
    "track_muted": RoomEvents.on_muted,
    "track_unmuted": RoomEvents.on_unmuted,
    "active_speakers_changed": RoomEvents.on_speakers,
    "connection_quality_changed": RoomEvents.on_quality,
    "room_metadata_changed": RoomEvents.on_room_metadata,
    "data_received": RoomEvents.on_data,
}
