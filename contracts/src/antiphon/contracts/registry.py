"""The event catalogue, version 1: every event type, and how to decode its body."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.event import Event
from antiphon.contracts.events import agent, command, livekit, media, participant, session, tool, turn, usage

EVENTS: tuple[type[Event], ...] = (
    session.SessionRequested,
    session.SessionAdopted,
    session.SessionDispatched,
    session.SessionDispatchFailed,
    session.SessionClosed,
    session.SessionFailed,
    agent.AgentJoined,
    agent.AgentReady,
    agent.AgentLeft,
    agent.AgentLost,
    agent.AgentResumed,
    agent.AgentStateChanged,
    agent.UserStateChanged,
    agent.AgentHandedOff,
    agent.AgentError,
    turn.TurnStarted,
    turn.TurnSaved,
    turn.UserInputTranscribed,
    turn.AgentFalseInterruption,
    turn.OverlappingSpeech,
    tool.ToolStarted,
    tool.ToolCompleted,
    participant.ParticipantConnected,
    participant.ParticipantDisconnected,
    participant.ParticipantMetadataChanged,
    participant.ParticipantNameChanged,
    participant.ParticipantAttributesChanged,
    media.TrackPublished,
    media.TrackUnpublished,
    media.TrackSubscribed,
    media.TrackUnsubscribed,
    media.TrackMuted,
    media.TrackUnmuted,
    media.TrackSubscriptionFailed,
    media.Reconnecting,
    media.Reconnected,
    media.SipDtmfReceived,
    media.ActiveSpeakersChanged,
    media.ConnectionQualityChanged,
    media.RoomMetadataChanged,
    media.DataReceived,
    media.FileReceived,
    media.RecordingSaved,
    usage.UsageUpdated,
    command.CommandRequested,
    command.CommandApplied,
    command.CommandRejected,
    livekit.LiveKitRoomStarted,
    livekit.LiveKitRoomFinished,
    livekit.LiveKitParticipantJoined,
    livekit.LiveKitParticipantLeft,
    livekit.LiveKitParticipantConnectionAborted,
    livekit.LiveKitTrackPublished,
    livekit.LiveKitTrackUnpublished,
    livekit.LiveKitEgressStarted,
    livekit.LiveKitEgressUpdated,
    livekit.LiveKitEgressEnded,
    livekit.LiveKitIngressStarted,
    livekit.LiveKitIngressEnded,
    livekit.LiveKitAgentJobPending,
    livekit.LiveKitAgentJobStarted,
    livekit.LiveKitAgentJobEnded,
    livekit.LiveKitOther,
)

BY_TYPE: Mapping[str, type[Event]] = MappingProxyType({event.TYPE: event for event in EVENTS})
_DECODERS = {event.TYPE: msgspec.json.Decoder(event) for event in EVENTS}


def family_of(event_type: str) -> str:
    """Return the family of an event type.

    Raises UnknownEventType.
    """
    event = BY_TYPE.get(event_type)
    if event is None:
        raise UnknownEventType(f"unknown event type {event_type!r}")
    return event.FAMILY


def open_event(envelope: Envelope) -> Event:
    """Decode the body of an envelope as the event of its type.

    Raises UnknownEventType, UnsupportedEventVersion, MalformedEvent.
    """
    decoder = _DECODERS.get(envelope.type)
    if decoder is None:
        raise UnknownEventType(f"unknown event type {envelope.type!r}")
    version, known = envelope.version, BY_TYPE[envelope.type].VERSION
    if version != known:
        raise UnsupportedEventVersion(f"{envelope.type} version {version} is not supported, only {known}")
    try:
        return decoder.decode(envelope.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedEvent(f"{envelope.type}: {error}") from error
