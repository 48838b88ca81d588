"""The schema of a flow file. The field descriptions are published in flows/flow.schema.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_ID = r"^[a-z][a-z0-9-]{0,62}$"
_NAME = r"^[a-z][a-z0-9_]*$"
_WORDS = r"^[a-z][a-z']*( [a-z][a-z']*)*$"
PATTERNS = {
    _ID: "lower-case letters, digits and -",
    _NAME: "lower-case letters, digits and _",
    _WORDS: "lower-case words",
}

Name = Annotated[str, Field(pattern=_NAME)]
Text = Annotated[str, Field(min_length=1)]
Words = Annotated[str, Field(pattern=_WORDS)]
Value = str | int


def _one_or_many(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _words_or_values(given: Any) -> Any:
    if isinstance(given, list) and all(isinstance(word, str) for word in given):
        return {word: word for word in given}
    return given


_MANY = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
Names = Annotated[
    list[Name],
    Field(min_length=1),
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, _MANY]}),
]
Phrases = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, _MANY]}),
]
Values = Annotated[
    dict[Words, Value],
    Field(min_length=1),
    BeforeValidator(_words_or_values),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {"type": ["string", "integer"]},
                    "minProperties": 1,
                },
                _MANY,
            ]
        }
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Providers(_Part):
    """The providers of voice activity detection, speech recognition, the model and speech synthesis."""

    vad: str = Field(description="Detects speech.")
    stt: str = Field(description="Turns speech into words.")
    llm: str = Field(description="Chooses the answers.")
    tts: str = Field(description="Turns words into speech.")


class Silence(_Part):
    """What the agent says when the caller is silent."""

    after_seconds: float = Field(gt=0, le=600, strict=False, description="How long to wait, in seconds.")
    say: Text = Field(description="What to say.")
    at_most: int = Field(ge=1, le=10, description="How many times in a row, at most.")


class Rule(_Part):
    """The agent's answer to a phrase. The first rule that applies is used."""

    hear: Names = Field(description="The names of the phrases that this rule answers.")
    after: Name | None = Field(default=None, description="Applies only when the last rule asked this.")
    needs: list[Name] = Field(default=[], description="Applies only when these slots have a value.")
    say: Text = Field(description="The answer; {slot} is the caller's words, {output} an output of the tool.")
    asks: Name | None = Field(default=None, description="A name for the question in the answer, for `after`.")
    call: Name | None = Field(
        default=None, description="A tool to call first; its arguments are the slots of the same names."
    )
    on_failure: Text | None = Field(default=None, description="The answer when the tool fails.")
    forget: list[Name] = Field(default=[], description="Slots to clear afterwards.")
    hand_off: Name | None = Field(default=None, description="The agent that takes over after the answer.")
    end: Literal[True] | None = Field(default=None, description="End the call after the answer.")


class AgentScript(_Part):
    """One agent of the flow."""

    instructions: Text = Field(description="The purpose of this agent, in a sentence or two.")
    greeting: Text = Field(description="The first thing it says.")
    rules: list[Rule] = Field(
        default=[], description="Its own rules; they come before the rules of the flow."
    )


class Flow(_Part):
    """A scripted conversation."""

    id: str = Field(pattern=_ID, description="The id of the flow in the API.")
    name: Text = Field(description="A name for people.")
    description: Text = Field(description="What it does, in a sentence.")
    language: Literal["en"] = Field(description="The language of the callers.")
    providers: Providers
    entry: Name = Field(description="The agent that answers the call.")
    fallback: Text = Field(description="The answer when no rule applies.")
    silence: Silence
    slots: dict[Name, Values] = Field(
        default={},
        description="The values that callers can give: words, or words and the value they stand for.",
    )
    phrases: dict[Name, Phrases] = Field(
        min_length=1, description="What callers can say: words, [optional], (one | other), {slot}."
    )
    agents: dict[Name, AgentScript] = Field(min_length=1)
    rules: list[Rule] = Field(default=[], description="The rules of all agents, after their own.")

    @property
    def greeting(self) -> str:
        """The greeting of the entry agent."""
        return self.agents[self.entry].greeting

    def rules_of(self, agent: str) -> list[Rule]:
        """Return the rules of an agent, in order of precedence."""
        return [*self.agents[agent].rules, *self.rules]
