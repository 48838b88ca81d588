"""LiveKit's enumerations in the catalogue's words: PARTICIPANT_KIND_STANDARD is `standard`."""

from livekit import rtc


def participant_kind(participant: rtc.Participant) -> str:
    """Name the kind of a participant: standard, agent, sip and others."""
    return rtc.ParticipantKind.Name(participant.kind).removeprefix("PARTICIPANT_KIND_").lower()


def track_kind(publication: rtc.TrackPublication) -> str:
    """Name the kind of a track: audio or video."""
    return rtc.TrackKind.Name(publication.kind).removeprefix("KIND_").lower()


def track_source(publication: rtc.TrackPublication) -> str:
    """Name the source of a track: microphone, camera and others."""
    return rtc.TrackSource.Name(publication.source).removeprefix("SOURCE_").lower()


def quality(value: rtc.ConnectionQuality) -> str:
    """Name the quality of a connection: excellent, good, poor, lost."""
    return value.name.removeprefix("QUALITY_").lower()


def disconnect_reason(value: int | None) -> str:
    """Name why somebody was disconnected: client_initiated, room_deleted and others."""
    try:
        return rtc.DisconnectReason.Name(value or 0).lower()  # type: ignore[arg-type] # its own type is of no use
    except ValueError:
        return f"reason_{value}"


def data_kind(value: int) -> str:
    """Name how a data packet travelled: reliable or lossy."""
    return rtc.DataPacketKind.Name(value).removeprefix("KIND_").lower()  # type: ignore[arg-type]
