"""The voice of a flow or of one of its agents: the providers that hear, think and speak."""

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from antiphon.agent_worker.flow.names import Part, Text

KINDS = ("vad", "stt", "llm", "tts", "realtime")


def _named(given: Any) -> Any:
    return {"use": given} if isinstance(given, str) else given


class Provider(Part):
    """A provider and its options: a name alone, or `use: NAME` with the options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    use: Text = Field(description="The name of the provider.")
    fallbacks: "list[OneProvider]" = Field(
        default=[], description="The providers that take over, in this order, when this one fails."
    )
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=60,
        description="How long one attempt may take before it counts as failed; by default 10, for tts 5.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """The options, by the names that the provider gives them."""
        return self.model_extra or {}


OneProvider = Annotated[Provider, BeforeValidator(_named, json_schema_input_type=str | Provider)]


class Voice(Part):
    """How an agent hears, thinks and speaks: `stt`, `llm`, `tts` and `vad`, or a `realtime` model."""

    vad: OneProvider | None = Field(default=None, description="Detects speech.")
    stt: OneProvider | None = Field(default=None, description="Turns speech into words.")
    llm: OneProvider | None = Field(default=None, description="Chooses the answers.")
    tts: OneProvider | None = Field(default=None, description="Turns words into speech.")
    realtime: OneProvider | None = Field(
        default=None, description="A model that hears and speaks itself, in place of `stt` and `llm`."
    )
    apology: Text | None = Field(
        default=None, description="What the caller hears when a provider and its fallbacks fail."
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Voice":
        if self.realtime is not None and (self.stt is not None or self.llm is not None):
            raise ValueError("`realtime` replaces `stt` and `llm`: leave these out")
        return self

    def over(self, other: "Voice") -> "Voice":
        """Return this voice with what it leaves out taken from another."""
        own = {name: value for name, value in self if value is not None}
        both = {name: value for name, value in other if value is not None} | own
        if "realtime" in own:
            both.pop("stt", None)
            both.pop("llm", None)
        elif own.keys() & {"stt", "llm"}:
            both.pop("realtime", None)
        return Voice.model_construct(**both)


OFFLINE = Voice(vad="silero", stt="offline", llm="offline", tts="offline")  # type: ignore[arg-type]
