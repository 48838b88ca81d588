"""Usage per model, in the names of the contract."""

from livekit.agents.metrics import AgentSessionUsage
from livekit.agents.metrics import ModelUsage as LiveKitUsage

from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.recorder.outbox import WriteEvent

# contract's name: LiveKit's name; each kind of model counts some of these
_COUNTS = {
    "input_tokens": "input_tokens",
    "input_cached_tokens": "input_cached_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_tokens": "output_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "characters": "characters_count",
    "requests": "total_requests",
}


class Usage:
    """The usage of a session so far; cumulative, so that it is written only once per turn."""

    def __init__(self, write: WriteEvent) -> None:
        self.models: list[ModelUsage] = []
        self._write = write
        self._written: list[ModelUsage] = []

    def update(self, usage: AgentSessionUsage) -> None:
        """Replace the figures with LiveKit's newest."""
        self.models = [_model_usage(model) for model in usage.model_usage]

    def write_changes(self) -> None:
        """Write `usage.updated` if anything has changed since the last one."""
        if self.models != self._written:
            self._written = self.models
            self._write(UsageUpdated(models=self.models))


def _model_usage(model: LiveKitUsage) -> ModelUsage:
    counts = {ours: int(getattr(model, theirs, 0)) for ours, theirs in _COUNTS.items()}
    return ModelUsage(
        kind=model.type.removesuffix("_usage"),
        provider=model.provider,
        model=model.model,
        audio_seconds=float(getattr(model, "audio_duration", 0.0)),
        **counts,
    )
