"""A synthetic caller: a real participant of a LiveKit room that speaks, records and reads transcripts."""

from antiphon.cli.caller.audio import AudioChunk
from antiphon.cli.caller.call_log import DataMessage, StateChange, Utterance
from antiphon.cli.caller.caller import AgentNeverReady, AgentSilent, Caller

__all__ = [
    "AgentNeverReady",
    "AgentSilent",
    "AudioChunk",
    "Caller",
    "DataMessage",
    "StateChange",
    "Utterance",
]
