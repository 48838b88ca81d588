"""How a flow takes turns: when the caller has finished, and when the agent may be interrupted."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from antiphon.agent_worker.flow.names import Part, Seconds


def _enabled(given: Any) -> Any:
    return {"enabled": given} if isinstance(given, bool) else given


class Endpointing(Part):
    """How long the agent waits after speech before it answers."""

    mode: Literal["fixed", "dynamic"] = Field(
        default="fixed", description="`dynamic` learns the pauses of the caller."
    )
    min_seconds: float = Field(default=0.2, ge=0, le=10, description="When the turn has ended.")
    max_seconds: float = Field(default=1.0, ge=0, le=30, description="When it seems that the caller goes on.")

    @model_validator(mode="after")
    def _ordered(self) -> "Endpointing":
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds ({self.max_seconds:g}) is less than min_seconds")
        return self


class Interruption(Part):
    """When the caller interrupts the agent."""

    enabled: bool = Field(default=True, description="Whether the caller can interrupt at all.")
    min_seconds: float = Field(
        default=0.5, ge=0, le=10, description="Speech that is shorter does not interrupt."
    )
    min_words: int = Field(default=0, ge=0, le=20, description="Fewer words do not interrupt.")
    resume: bool = Field(default=True, description="Go on after a sound that had no words.")
    resume_after_seconds: Seconds = Field(
        default=2.0, le=10, description="How long to wait for words after such a sound."
    )


class Turns(Part):
    """How the agent and the caller take turns."""

    detection: Literal["vad", "stt", "semantic", "manual"] = Field(
        default="vad",
        description="What ends the caller's turn: silence, the recogniser, a model of speech, a signal.",
    )
    endpointing: Endpointing = Field(default=Endpointing(), description="When the agent answers.")
    interruption: Annotated[
        Interruption, BeforeValidator(_enabled, json_schema_input_type=bool | Interruption)
    ] = Field(default=Interruption(), description="When the caller interrupts; `false` for never.")
