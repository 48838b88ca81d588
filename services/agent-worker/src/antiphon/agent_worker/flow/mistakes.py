"""The errors of a flow that does not match its schema: what was given, and what is allowed."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from antiphon.agent_worker.flow.document import Document, FlowProblem
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import PATTERNS, Path
from antiphon.agent_worker.flow.suggest import did_you_mean, listed
from antiphon.agent_worker.flow.traps import boolean_hint, text_hint

_SHORTEST = 60  # characters of what was given that an error shows
_ADDED = frozenset({"[key]", "str", "int"})  # by pydantic, to the place of an error


def schema_problem(document: Document, details: ErrorDetails) -> FlowProblem:
    """Return the problem of an error of the schema."""
    path = place_of(details)
    given = details["input"]
    match details["type"]:
        case "extra_forbidden":
            allowed = allowed_keys(path[:-1])
            name = str(path[-1])
            reason = f"unknown key; allowed: {', '.join(allowed)}{did_you_mean(name, allowed)}"
            return document.problem(path, reason)
        case "string_pattern_mismatch":
            pattern = details["ctx"]["pattern"]
            return document.problem(path, f"{given!r} is not {PATTERNS.get(pattern, pattern)}")
        case "missing":
            return document.problem(path, "is missing")
        case "value_error":
            return document.problem(path, str(details["ctx"]["error"]))
        case _:
            reason = _hint(details, path) or f"{_expected(details, path)}, not {_shown(given)}"
            return document.problem(path, reason)


def _hint(details: ErrorDetails, path: Path) -> str | None:
    """Return what to write, if it is clear."""
    given = details["input"]
    hint = None
    match details["type"]:
        case "string_type":
            hint = text_hint(given)
        case "bool_type" | "literal_error":
            hint = boolean_hint(given)
        case "model_type" | "dict_type" | "model_attributes_type":
            hint = _value_hint(path, given)
        case "too_short":
            hint = "is empty: write at least one"
        case "string_too_short":
            hint = text_hint(None)
    if hint is None and given is None:
        hint = "is empty: write a value, or remove the key"
    return hint


def _expected(details: ErrorDetails, path: Path) -> str:
    """Return what is allowed."""
    match details["type"]:
        case "model_type" | "dict_type" | "model_attributes_type":
            keys = ", ".join(allowed_keys(path))
            return f"should have keys ({keys})" if keys else "should have keys with values"
        case "list_type":
            given = details["input"]
            return f"should be a list, [{given}]" if isinstance(given, str) else "should be a list"
        case "string_type":
            return "should be a text"
        case "bool_type":
            return "should be true or false"
        case "literal_error" if details["ctx"]["expected"] == "True":
            return "should be true, or be left out"
        case _:
            return details["msg"][0].lower() + details["msg"][1:]


def _value_hint(path: Path, given: Any) -> str | None:
    """Return a hint at a value that stands where keys belong, if it may stand there as a simple one."""
    types = {schema.get("type") for schema in _schemas(_schema(), path)}
    if "boolean" in types and (hint := boolean_hint(given)) is not None:
        return hint
    return text_hint(given) if "string" in types and given is not None else None


def place_of(details: ErrorDetails) -> Path:
    """Return where an error is, without the names that pydantic adds for types."""
    steps = [step for step in details["loc"] if step not in _ADDED and not str(step).startswith("function-")]
    return tuple(steps)


def _shown(given: Any) -> str:
    if isinstance(given, Mapping):
        return f"keys ({listed(map(str, given))})"
    if isinstance(given, list):
        return f"a list of {len(given)}"
    text = repr(given)
    return text if len(text) <= _SHORTEST else f"{text[:_SHORTEST]}…"


def allowed_keys(path: Path) -> list[str]:
    """Return the keys that are allowed at a place."""
    return list(dict.fromkeys(_keys(path)))


def _keys(path: Path) -> Iterator[str]:
    for schema in _schemas(_schema(), path):
        yield from schema.get("properties", {})


def _schemas(schema: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas of what is at a place below a schema."""
    if "$ref" in schema:
        yield from _schemas(_schema()["$defs"][schema["$ref"].rpartition("/")[2]], path)
        return
    for kind in ("anyOf", "allOf"):
        for option in schema.get(kind, ()):
            yield from _schemas(option, path)
    if not path:
        yield schema
        return
    step, *rest = path
    inner: list[Any] = [schema.get("items")] if isinstance(step, int) else _values(schema, step)
    for one in inner:
        if isinstance(one, Mapping):
            yield from _schemas(one, tuple(rest))


def _values(schema: Mapping[str, Any], key: str) -> list[Any]:
    if key in schema.get("properties", {}):
        return [schema["properties"][key]]
    return [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]


@cache
def _schema() -> dict[str, Any]:
    return Flow.model_json_schema()
