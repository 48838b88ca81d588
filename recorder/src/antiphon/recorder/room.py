"""Record the events of the room. One handler per event of `rtc.Room`, in one table."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from livekit import rtc
from msgspec.structs import replace

from antiphon.contracts.events.media import (
    ActiveSpeakersChanged,
    ConnectionQualityChanged,
    Reconnected,
    Reconnecting,
    RoomMetadataChanged,
    SipDtmfReceived,
    TrackEvent,
    TrackMuted,
    TrackPublished,
    TrackSubscribed,
    TrackSubscriptionFailed,
    TrackUnmuted,
    TrackUnpublished,
    TrackUnsubscribed,
)
from antiphon.contracts.events.participant import (
    ParticipantAttributesChanged,
    ParticipantConnected,
    ParticipantDisconnected,
    ParticipantMetadataChanged,
    ParticipantNameChanged,
)
from antiphon.contracts.events.session import ParticipantSummary
from antiphon.recorder.data_packets import DataPackets
from antiphon.recorder.outbox import WriteEvent
from antiphon.recorder.taps import ErrorGuard


class RoomRecorder:
    """Writer of the room's events, with the list of its participants."""

    def __init__(self, room: rtc.Room, write: WriteEvent, guard: ErrorGuard) -> None:
        self.participants: dict[str, ParticipantSummary] = {}  # by sid
        self.disconnect_reason: str | None = None  # of the agent
        self.last_departure: str | None = None  # why the last participant left
        self._room = room
        self._write = write
        self._guard = guard
        self._speaking: list[str] = []
        self._data = DataPackets(write, guard.wrap)
        self._reconnecting_since: float | None = None
        self._attached: dict[Any, Callable[..., None]] = {}

    def attach(self) -> None:
        """Record the room's events from now on."""
        for name, handler in _HANDLERS.items():
            self._attached[name] = self._guard.wrap(name, handler.__get__(self))
            self._room.on(name, self._attached[name])
        if self._room.isconnected():
            self._write_present_participants()

    def _write_present_participants(self) -> None:
        # LiveKit does not announce those who were in the room before the agent
        for participant in self._room.remote_participants.values():
            self.on_participant_connected(participant)

    def close(self) -> None:
        """Write what was not written yet."""
        self._data.flush()

    def detach(self) -> None:
        """Receive no more events of the room."""
        for name, handler in self._attached.items():
            self._room.off(name, handler)
        self._attached.clear()

    def on_connection_state(self, state: int) -> None:
        """Record who is in the room when the agent joins it."""
        if state == rtc.ConnectionState.CONN_CONNECTED:
            self._write_present_participants()

    def on_disconnected(self, reason: int) -> None:
        """Remember why the agent was disconnected."""
        self.disconnect_reason = _disconnect_reason(reason)

    def on_reconnecting(self) -> None:
        """Record that the agent lost its connection."""
        if self._reconnecting_since is None:
            self._reconnecting_since = time.monotonic()
            self._write(Reconnecting())

    def on_reconnected(self) -> None:
        """Record that the agent is connected again, and how long it was not."""
        since, self._reconnecting_since = self._reconnecting_since, None
        self._write(Reconnected(gap_seconds=None if since is None else time.monotonic() - since))

    def on_participant_connected(self, participant: rtc.RemoteParticipant) -> None:
        """Record a participant, once per sid."""
        if participant.sid in self.participants:
            return
        kind = _participant_kind(participant)
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
        """Record that a participant left, and why."""
        self.on_participant_connected(participant)  # a disconnect may arrive without a connect
        self.last_departure = _disconnect_reason(participant.disconnect_reason)
        summary = self.participants[participant.sid]
        self.participants[participant.sid] = replace(summary, left_at=datetime.now(UTC))
        disconnected = ParticipantDisconnected(
            identity=participant.identity, sid=participant.sid, kind=summary.kind, reason=self.last_departure
        )
        self._write(disconnected)

    def on_metadata(self, participant: rtc.Participant, old: str, new: str) -> None:
        """Record a change of a participant's metadata."""
        changed = ParticipantMetadataChanged(
            identity=participant.identity, sid=participant.sid, old_metadata=old, metadata=new
        )
        self._write(changed)

    def on_name(self, participant: rtc.Participant, old: str, new: str) -> None:
        """Record a change of a participant's name."""
        changed = ParticipantNameChanged(
            identity=participant.identity, sid=participant.sid, old_name=old, name=new
        )
        self._write(changed)

    def on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        """Record a change of a participant's attributes; the agent's own only repeat its state."""
        if isinstance(participant, rtc.RemoteParticipant):
            self._write(
                ParticipantAttributesChanged(
                    identity=participant.identity, sid=participant.sid, changed=changed
                )
            )

    def on_published(self, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Record that a track is published."""
        self._track(TrackPublished, publication, participant)

    def on_unpublished(self, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant) -> None:
        """Record that a track is no longer published."""
        self._track(TrackUnpublished, publication, participant)

    def on_subscribed(
        self, _: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        """Record that the agent receives a track."""
        self.on_participant_connected(participant)
        self._track(TrackSubscribed, publication, participant)

    def on_subscription_failed(self, participant: rtc.RemoteParticipant, track_sid: str, error: str) -> None:
        """Record that the agent cannot receive a track."""
        self._write(
            TrackSubscriptionFailed(
                identity=participant.identity,
                participant_sid=participant.sid,
                track_sid=track_sid,
                error=str(error),
            )
        )

    def on_unsubscribed(
        self, _: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        """Record that the agent no longer receives a track."""
        self._track(TrackUnsubscribed, publication, participant)

    def on_muted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        """Record that a track was muted."""
        self._track(TrackMuted, publication, participant)

    def on_unmuted(self, participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
        """Record that a track was unmuted."""
        self._track(TrackUnmuted, publication, participant)

    def _track(
        self, event: type[TrackEvent], publication: rtc.TrackPublication, participant: rtc.Participant
    ) -> None:
        self._write(
            event(
                identity=participant.identity,
                participant_sid=participant.sid,
                track_sid=publication.sid,
                kind=_track_kind(publication),
                source=_track_source(publication),
                name=publication.name or None,
            )
        )

    def on_speakers(self, speakers: list[rtc.Participant]) -> None:
        """Record who is speaking, when it changes; LiveKit repeats it several times a second."""
        identities = sorted(speaker.identity for speaker in speakers)
        if identities != self._speaking:
            self._speaking = identities
            self._write(ActiveSpeakersChanged(identities=identities))

    def on_quality(self, participant: rtc.Participant, quality: rtc.ConnectionQuality) -> None:
        """Record the quality of a connection."""
        self._write(
            ConnectionQualityChanged(
                identity=participant.identity,
                participant_sid=participant.sid,
                quality=_quality(quality),
            )
        )

    def on_room_metadata(self, old: str, new: str) -> None:
        """Record a change of the room's metadata."""
        self._write(RoomMetadataChanged(old_metadata=old, metadata=new))

    def on_dtmf(self, dtmf: rtc.SipDTMF) -> None:
        """Record a key that a caller pressed."""
        identity = dtmf.participant.identity if dtmf.participant else None
        self._write(SipDtmfReceived(code=dtmf.code, digit=dtmf.digit, identity=identity))

    def on_data(self, packet: rtc.DataPacket) -> None:
        """Record the size and topic of a data packet, not its content."""
        self._data.add(packet)


# The contract's names of LiveKit's enum values: PARTICIPANT_KIND_STANDARD is `standard`


def _participant_kind(participant: rtc.Participant) -> str:
    return rtc.ParticipantKind.Name(participant.kind).removeprefix("PARTICIPANT_KIND_").lower()


def _track_kind(publication: rtc.TrackPublication) -> str:
    return rtc.TrackKind.Name(publication.kind).removeprefix("KIND_").lower()


def _track_source(publication: rtc.TrackPublication) -> str:
    return rtc.TrackSource.Name(publication.source).removeprefix("SOURCE_").lower()


def _quality(value: rtc.ConnectionQuality) -> str:
    return value.name.removeprefix("QUALITY_").lower()


def _disconnect_reason(value: int | None) -> str:
    try:
        return rtc.DisconnectReason.Name(value or 0).lower()  # type: ignore[arg-type] # typed as its own enum
    except ValueError:
        return f"reason_{value}"


_HANDLERS: Mapping[Any, Callable[..., None]] = {
    "connection_state_changed": RoomRecorder.on_connection_state,
    "disconnected": RoomRecorder.on_disconnected,
    "reconnecting": RoomRecorder.on_reconnecting,
    "reconnected": RoomRecorder.on_reconnected,
    "participant_connected": RoomRecorder.on_participant_connected,
    "participant_disconnected": RoomRecorder.on_participant_disconnected,
    "participant_metadata_changed": RoomRecorder.on_metadata,
    "participant_name_changed": RoomRecorder.on_name,
    "participant_attributes_changed": RoomRecorder.on_attributes,
    "track_published": RoomRecorder.on_published,
    "track_unpublished": RoomRecorder.on_unpublished,
    "track_subscribed": RoomRecorder.on_subscribed,
    "track_subscription_failed": RoomRecorder.on_subscription_failed,
    "track_unsubscribed": RoomRecorder.on_unsubscribed,
    "track_muted": RoomRecorder.on_muted,
    "track_unmuted": RoomRecorder.on_unmuted,
    "active_speakers_changed": RoomRecorder.on_speakers,
    "connection_quality_changed": RoomRecorder.on_quality,
    "room_metadata_changed": RoomRecorder.on_room_metadata,
    "sip_dtmf_received": RoomRecorder.on_dtmf,
    "data_received": RoomRecorder.on_data,
}
