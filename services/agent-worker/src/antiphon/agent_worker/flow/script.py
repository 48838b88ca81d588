"""The script of a flow: what callers can say, and the rules that answer it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from antiphon.agent_worker.flow.names import Name, Names, Part, Text, Texts, Words

Value = str | int


def _words_or_values(given: Any) -> Any:
    if isinstance(given, list) and all(isinstance(word, str) for word in given):
        return {word: word for word in given}
    return given


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
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]


class Rule(Part):
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
    transfer: Name | None = Field(default=None, description="The person who takes over after the answer.")
    end: Literal[True] | None = Field(default=None, description="End the call after the answer.")


class Script(Part):
    """What callers can say, and the answers; with a model that is not scripted, answers that are forced."""

    fallback: Text | None = Field(default=None, description="The answer when no rule applies.")
    slots: dict[Name, Values] = Field(
        default={},
        description="The values that callers can give: words, or words and the value they stand for.",
    )
    phrases: dict[Name, Texts] = Field(
        default={}, description="What callers can say: words, [optional], (one | other), {slot}."
    )
    rules: list[Rule] = Field(default=[], description="The answers, in order of precedence.")
