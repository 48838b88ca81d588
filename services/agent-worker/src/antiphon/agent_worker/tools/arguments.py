"""The arguments of a tool, checked against their JSON Schema before the call."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from livekit.agents.llm import ToolError
from referencing import Registry

_SHOWN = 3  # errors that the model reads
_LONGEST = 200  # characters of one
_SURROGATE = re.compile("[\ud800-\udfff]")


def schema_problem(schema: Any) -> str | None:
    """Return what is wrong with a JSON Schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"not a valid JSON Schema: {error.message[:_LONGEST]}"
    outside = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
    return None if outside is None else f"$ref {outside!r} is outside of the schema; write it out"


class Arguments:
    """The checks and defaults of a tool's arguments, from the JSON Schema of an object."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # an empty registry: the default one reads what $ref names from the network
        self._validator = Draft202012Validator(dict(schema), registry=Registry())
        properties = schema.get("properties", {})
        self._defaults = {
            name: each["default"]
            for name, each in properties.items()
            if isinstance(each, Mapping) and "default" in each
        }

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults. Raises ToolError, which says what the model should send."""
        require_json(given)
        left_out = {name for name, value in given.items() if value is None}  # models send null for it
        arguments = {**given, **{k: v for k, v in self._defaults.items() if k not in given or k in left_out}}
        errors = []
        for error in self._validator.iter_errors(arguments):
            errors.append(f"{error.json_path.removeprefix('$.')}: {error.message[:_LONGEST]}")
            if len(errors) == _SHOWN:
                break
        if errors:
            raise ToolError(f"invalid arguments: {'; '.join(errors)}")
        return arguments


def require_json(given: Mapping[str, Any]) -> None:
    """Refuse what Python reads of a model's JSON and nobody else does. Raises ToolError."""
    for place, why in _not_json("", given):
        raise ToolError(f"invalid arguments: {place[:_LONGEST] or '$'}: {why}")


def _not_json(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield what JSON cannot carry: NaN, Infinity, numbers beyond those of a float, and lone surrogates."""
    if isinstance(value, str) and _SURROGATE.search(value):
        yield place, "the text has a lone surrogate, which is no character"
    elif isinstance(value, int | float) and not _is_finite(value):
        yield place, "must be a finite number, and one that is not too large"
    elif isinstance(value, Mapping):
        if any(_SURROGATE.search(name) for name in value):
            yield place, "a name has a lone surrogate, which is no character"
        for name, inner in value.items():
            yield from _not_json(f"{place}.{name}" if place else name, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_json(f"{place}[{index}]", inner)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond any float: other readers of JSON refuse it, or round it to infinity
        return False


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(key), str):
                yield schema[key]
        for inner in schema.values():
            yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)
