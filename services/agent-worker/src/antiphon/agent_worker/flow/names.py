"""The types that the parts of a flow file share."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

FLOW_ID = r"^[a-z][a-z0-9-]{0,62}$"
NAME = r"^[a-z][a-z0-9_]*$"
WORDS = r"^[a-z][a-z']*( [a-z][a-z']*)*$"
LANGUAGE = r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"
TELEPHONE_KEY = r"^[0-9*#A-D]$"
GIVEN_NAME = r"^(metadata|variables)(\.[A-Za-z_][A-Za-z0-9_]*)+$"
PATTERNS = {
    FLOW_ID: "lower-case letters, digits and -",
    NAME: "lower-case letters, digits and _",
    WORDS: "lower-case words",
    LANGUAGE: "a language like en or pt-BR",
    TELEPHONE_KEY: "a key of a telephone: 0 to 9, *, #, A to D",
    GIVEN_NAME: "a name like metadata.name or variables.name",
}

Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1)]
Words = Annotated[str, Field(pattern=WORDS)]
Path = tuple[str | int, ...]  # of a part of a flow, as ("agents", "host", "greeting")
Seconds = Annotated[float, Field(gt=0)]


def dotted(path: Path) -> str:
    """Format a path as `agents.host.rules[2].say`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Part(BaseModel):
    """A part of a flow file: unknown keys are errors, and so are values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def one_or_many(given: Any) -> Any:
    """Return a list of a single text."""
    return [given] if isinstance(given, str) else given


_MANY = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
Names = Annotated[
    list[Name],
    Field(min_length=1),
    BeforeValidator(one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, _MANY]}),
]
Texts = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, _MANY]}),
]
