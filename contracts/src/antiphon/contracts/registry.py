"""The event catalogue: every event type, and how to decode its body in any version up to its own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.event import Event, Family
from antiphon.contracts.events import agent, command, livekit, media, participant, session, tool, turn, usage
from antiphon.contracts.upcasters import upcast

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
    agent.AgentTransferred,
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

# What happened to a session, for traces: without states of voices and rooms, which LiveKit names with `_`.
MILESTONES = frozenset(
    event.TYPE
    for event in EVENTS
    if "." in event.TYPE and event.FAMILY in {Family.SESSION, Family.AGENT, Family.TURN, Family.TOOL}
)
BY_TYPE: Mapping[str, type[Event]] = MappingProxyType({event.TYPE: event for event in EVENTS})
_DECODERS: "Mapping[str, msgspec.json.Decoder[Event]]" = {
    event.TYPE: msgspec.json.Decoder(event) for event in EVENTS
}
LARGEST_VERSION = 2**15 - 1  # the largest value of a `smallint` column in Postgres

T = TypeVar("T")


def family_of(event_type: str) -> str:
    """Return the family of an event type.

    Raises UnknownEventType.
    """
    event = BY_TYPE.get(event_type)
    if event is None:
        raise UnknownEventType(f"unknown event type {event_type!r}")
    return event.FAMILY


def open_event(envelope: Envelope) -> Event:
    """Decode the body of an envelope as the event of its type; a body of an older version is upcast.

    Raises MalformedEvent (also when `dataschema` has no version), UnknownEventType, UnsupportedEventVersion.
    """
    return decode_body(envelope, _DECODERS)


def decode_body(envelope: Envelope, decoders: "Mapping[str, msgspec.json.Decoder[T]]") -> T:
    """Decode the body of an envelope with the decoder of its type, for the newest version, as `open_event`.

    Raises what `open_event` raises.
    """
    name, version = envelope.type, envelope.version
    if not 1 <= version <= LARGEST_VERSION:
        raise MalformedEvent(f"{name}: dataschema {envelope.dataschema!r} does not end in a version")
    decoder = decoders.get(name)
    if decoder is None:
        raise UnknownEventType(f"unknown event type {name!r}")
    newest = BY_TYPE[name].VERSION
    if version > newest:
        raise UnsupportedEventVersion(f"{name} version {version} is not supported, only up to {newest}")
    try:
        if version == newest:
            return decoder.decode(envelope.data)
        body = upcast(name, msgspec.json.decode(envelope.data), version, newest)
        return decoder.decode(msgspec.json.encode(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedEvent(f"{name}: {error}") from error
