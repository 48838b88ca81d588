"""Whether a value fits the JSON Schema of an argument, in a bounded time."""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from pydantic_core import ValidationError as NotMatched
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_REFERENCES = 20_000  # of a flow
LONGEST = 200  # characters of a reason

_left: ContextVar[list[int]] = ContextVar("left")


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> SchemaValidator | None:
    """Return what finds a pattern in a text in linear time; None for one that only Python's `re` knows.

    Python's may take years, and no other thread of the process runs meanwhile.
    """
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if not validator.is_type(instance, "string") or (matcher := _matcher(pattern)) is None:
        return  # the call of the tool checks it again
    try:
        matcher.validate_python(instance)
    except NotMatched:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _no_names(*_: Any) -> Iterator[ValidationError]:
    """Slots have no values with names in them, which patterns could be matched with."""
    return iter(())


def _counted(keyword: str) -> Any:
    follow: Any = Draft202012Validator.VALIDATORS[keyword]

    def reference(validator: Any, ref: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise RecursionError(f"it follows more than {MAX_REFERENCES} references")
        yield from follow(validator, ref, instance, schema)

    return reference


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _no_names,
        "$ref": _counted("$ref"),
        "$dynamicRef": _counted("$dynamicRef"),
    },
)


class Accepted:
    """What the arguments of a tool may be, by the JSON Schema of all of them.

    `left` counts down the references that the checks of a flow may follow: each can lead to two others.
    """

    def __init__(self, parameters: Mapping[str, Any], left: list[int]) -> None:
        plain = _without_dialects(parameters)
        # an empty registry: the default one reads what $ref names from the network
        self._validator = _Validator(plain, registry=Registry())
        self._properties = plain.get("properties", {})
        self._left = left

    def refusal(self, argument: str, value: Any) -> str | None:
        """Return why an argument cannot have a value, None if it can."""
        token = _left.set(self._left)
        try:
            error = next(self._validator.descend(value, self._properties[argument]), None)
        except (Unresolvable, RecursionError) as failure:
            return f"its JSON Schema cannot be used: {str(failure)[:LONGEST]}"
        finally:
            _left.reset(token)
        return None if error is None else error.message


def _without_dialects(schema: Any) -> Any:
    """Return a JSON Schema without `$schema`, which would choose a validator with other keywords."""
    if isinstance(schema, Mapping):
        return {key: _without_dialects(inner) for key, inner in schema.items() if key != "$schema"}
    return [_without_dialects(inner) for inner in schema] if isinstance(schema, list) else schema
