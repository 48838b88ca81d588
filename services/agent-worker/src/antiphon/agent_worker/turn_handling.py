"""LiveKit's options for how a flow takes turns, all explicit: its defaults may call a cloud service."""

from livekit.agents.voice.turn import EndpointingOptions, TurnDetectionMode, TurnHandlingOptions

from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.semantic_turns import build_detector

# The offline recogniser starts after 0.4 s of silence. If the caller goes on after a pause, the words before
# it must not become a turn until those after it are known.
WHOLE_SENTENCE_SECONDS = 0.9


def turn_handling(flow: Flow) -> TurnHandlingOptions:
    """Return LiveKit's options for how a flow takes turns; blocks for 0.2 s if it loads a model.

    A realtime model detects turns itself, unless the flow names another detection.
    """
    interruption = flow.turns.interruption
    return {
        "turn_detection": _detection(flow),
        "endpointing": _endpointing(flow),
        "interruption": {
            "enabled": interruption.enabled,
            "mode": "vad",  # the other one is in the cloud
            "min_duration": interruption.min_seconds,
            "min_words": interruption.min_words,
            "resume_false_interruption": interruption.resume,
            "false_interruption_timeout": interruption.resume_after_seconds if interruption.resume else None,
        },
        "preemptive_generation": {"enabled": False},
    }


def _detection(flow: Flow) -> TurnDetectionMode:
    if flow.voice.realtime is not None and "detection" not in flow.turns.model_fields_set:
        return "realtime_llm"
    return build_detector() if flow.turns.detection == "semantic" else flow.turns.detection


def _endpointing(flow: Flow) -> EndpointingOptions:
    endpointing = flow.turns.endpointing
    shortest, longest = endpointing.min_seconds, endpointing.max_seconds
    if flow.turns.detection == "manual":
        shortest = longest = 0.0  # who says when they have finished is not waited for
    elif (
        flow.turns.detection == "semantic" and flow.voice.stt is not None and flow.voice.stt.use == "offline"
    ):
        shortest = max(shortest, WHOLE_SENTENCE_SECONDS)
    return {"mode": endpointing.mode, "min_delay": shortest, "max_delay": max(shortest, longest)}
