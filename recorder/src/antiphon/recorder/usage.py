"""LiveKit's usage per model, in the contract's words."""

from livekit.agents.metrics.usage import AgentSessionUsage
from livekit.agents.metrics.usage import ModelUsage as LiveKitUsage

from antiphon.contracts.events.usage import ModelUsage

# contract's name -> LiveKit's; each kind of model counts some of these
_COUNTS = {
    "input_tokens": "input_tokens",
    "input_cached_tokens": "input_cached_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_tokens": "output_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "characters": "characters_count",
    "requests": "total_requests",
}


def models_of(usage: AgentSessionUsage) -> list[ModelUsage]:
    """Return what each model has used since the session began."""
    return [_model_usage(model) for model in usage.model_usage]


def _model_usage(model: LiveKitUsage) -> ModelUsage:
    counts = {ours: int(getattr(model, theirs, 0)) for ours, theirs in _COUNTS.items()}
    return ModelUsage(
        kind=model.type.removesuffix("_usage"),
        provider=model.provider,
        model=model.model,
        audio_seconds=float(getattr(model, "audio_duration", 0.0)),
        **counts,
    )
