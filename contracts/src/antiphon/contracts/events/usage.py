"""Model usage of a session."""

from typing import ClassVar

from msgspec import Struct

from antiphon.contracts.event import Count, Event, Family, Seconds


class ModelUsage(Struct, frozen=True, kw_only=True):
    """The usage of one model since the session began."""

    kind: str
    provider: str
    model: str
    input_tokens: Count = 0
    input_cached_tokens: Count = 0
    input_audio_tokens: Count = 0
    output_tokens: Count = 0
    output_audio_tokens: Count = 0
    characters: Count = 0
    audio_seconds: Seconds = 0.0
    requests: Count = 0


class UsageUpdated(Event, frozen=True, kw_only=True):
    """The model usage of the session changed; the counts are cumulative per provider and model."""

    TYPE: ClassVar[str] = "usage.updated"
    FAMILY: ClassVar[Family] = Family.USAGE

    models: list[ModelUsage]
