"""The flow file, as data. Each field's description is what the published schema says of it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_ID = r"^[a-z][a-z0-9-]{0,62}$"
_NAME = r"^[a-z][a-z0-9_]*$"
_WORDS = r"^[a-z][a-z']*( [a-z][a-z']*)*$"
PATTERNS = {_ID: "lower case, digits and -", _NAME: "lower case, digits and _", _WORDS: "words in lower case"}

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
    """Who hears, thinks and speaks."""

    vad: str = Field(description="Notices that someone speaks.")
    stt: str = Field(description="Turns speech into words.")
    llm: str = Field(description="Decides what to answer.")
    tts: str = Field(description="Turns words into speech.")


class Silence(_Part):
    """What the agent says when the caller says nothing."""

    after_seconds: float = Field(gt=0, le=600, strict=False, description="How long to wait, in seconds.")
    say: Text = Field(description="What to say then.")
    at_most: int = Field(ge=1, le=10, description="How many times in a row.")


class Rule(_Part):
    """What the agent does when it hears something. The first rule that fits is followed."""

    hear: Names = Field(description="The phrases, by name, that this rule answers.")
    after: Name | None = Field(default=None, description="Only when the agent's last rule asked this.")
    needs: list[Name] = Field(default=[], description="Only when these slots are known.")
    say: Text = Field(description="The answer; {slot} is the words heard, {output} a tool's output.")
    asks: Name | None = Field(default=None, description="A name for what the answer asks, for `after`.")
    call: Name | None = Field(default=None, description="A tool to call first; its arguments are slots.")
    on_failure: Text | None = Field(default=None, description="The answer when the tool fails.")
    forget: list[Name] = Field(default=[], description="Slots to forget once this rule has done its work.")
    hand_off: Name | None = Field(default=None, description="The agent that takes over after the answer.")
    end: Literal[True] | None = Field(default=None, description="End the call once the answer was heard.")


class AgentScript(_Part):
    """One agent of the flow."""

    instructions: Text = Field(description="What this agent is there for, in a sentence or two.")
    greeting: Text = Field(description="What it says first.")
    rules: list[Rule] = Field(default=[], description="Its own rules; the flow's rules come after them.")


class Flow(_Part):
    """A conversation that an agent can hold."""

    id: str = Field(pattern=_ID, description="The flow's id in the API.")
    name: Text = Field(description="What people call it.")
    description: Text = Field(description="What it does, in a sentence.")
    language: Literal["en"] = Field(description="The language that callers speak.")
    providers: Providers
    entry: Name = Field(description="The agent that answers the call.")
    fallback: Text = Field(description="The answer to what was not understood.")
    silence: Silence
    slots: dict[Name, Values] = Field(
        default={}, description="What a caller can fill in: words, or words and what they mean."
    )
    phrases: dict[Name, Phrases] = Field(
        min_length=1, description="What is understood: words, [optional], (one | other), {slot}."
    )
    agents: dict[Name, AgentScript] = Field(min_length=1)
    rules: list[Rule] = Field(default=[], description="What every agent does, after its own rules.")

    @property
    def greeting(self) -> str:
        """What the caller hears first."""
        return self.agents[self.entry].greeting

    def rules_of(self, agent: str) -> list[Rule]:
        """Return the rules that an agent follows, in order."""
        return [*self.agents[agent].rules, *self.rules]
