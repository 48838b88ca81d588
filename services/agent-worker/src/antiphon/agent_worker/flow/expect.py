"""The conversations that a flow expects, which `antiphon flow test` holds it to."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from antiphon.agent_worker.flow.call import KEYS
from antiphon.agent_worker.flow.names import Name, Part, Text, Texts, one_or_many

# an empty list is an expectation too
Called = Annotated[
    list[Name],
    BeforeValidator(one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class ModelAnswer(Part):
    """What the model answers in a test: a text, or calls of tools with their arguments."""

    say: Text | None = Field(default=None, description="The text of the answer.")
    call: dict[Name, dict[str, Any]] = Field(default={}, description="Arguments by the name of the tool.")

    @model_validator(mode="after")
    def _something(self) -> "ModelAnswer":
        if self.say is None and not self.call:
            raise ValueError("a model says something, or calls a tool")
        return self


class Step(Part):
    """A step of a conversation: what the caller says, and what follows."""

    caller: Text | None = Field(
        default=None,
        description="What the caller says; without it, the greeting, or later a silence of the caller.",
    )
    keys: Text | None = Field(default=None, description="Keys that the caller presses.")
    model: list[ModelAnswer] = Field(default=[], description="What the model answers, in this order.")
    agent: Texts | None = Field(default=None, description="What the agent says; * stands for any words.")
    calls: Called | None = Field(default=None, description="The tools that are called, in order; [] is none.")
    hands_off_to: Name | None = Field(default=None, description="The agent that takes over.")
    ends: bool | None = Field(default=None, description="Whether the call ends.")

    @field_validator("keys")
    @classmethod
    def _on_a_telephone(cls, keys: str | None) -> str | None:
        if keys is not None and (strange := sorted(set(keys) - set(KEYS))):
            raise ValueError(f"a telephone has no key {strange[0]!r}; it has {KEYS}")
        return keys

    @model_validator(mode="after")
    def _one_action(self) -> "Step":
        if self.caller is not None and self.keys is not None:
            raise ValueError("a step has either `caller` or `keys`: make two of it")
        return self


class Conversation(Part):
    """A conversation that the flow expects."""

    name: Text = Field(description="What it shows, in a few words.")
    metadata: dict[str, Any] = Field(default={}, description="The metadata of the session.")
    variables: dict[str, Any] = Field(default={}, description="The variables of the session's request.")
    at: Text | None = Field(default=None, description="The time of the call, as 2026-01-31T18:00.")
    tools: dict[Name, Any] = Field(
        default={},
        description="The results of tools, which are then not called; {error: why} makes a tool fail.",
    )
    steps: list[Step] = Field(min_length=1, description="What is said and done, in order.")

    @field_validator("at")
    @classmethod
    def _a_time(cls, at: str | None) -> str | None:
        if at is not None:
            try:
                datetime.fromisoformat(at)
            except ValueError as error:
                raise ValueError(f"{at!r} is not a time such as 2026-01-31T18:00") from error
        return at
