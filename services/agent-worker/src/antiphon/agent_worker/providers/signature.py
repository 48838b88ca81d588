"""The options of a provider as JSON Schemas, read from the signature of its plugin.

options.json has those of the built-in providers: a flow is checked without importing a plugin, which takes a
second and must be on the main thread. `make contracts` writes it.
"""

import inspect
import json
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from livekit.agents.types import NotGiven
from pydantic import BaseModel, TypeAdapter

Schema = dict[str, Any]
OPTIONS = Path(__file__).with_name("options.json")

_PLAIN: Mapping[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}
_NULL: Schema = {"type": "null"}


def options_of(factory: Callable[..., Any], reserved: Collection[str] = ()) -> dict[str, Schema]:
    """Return the JSON Schemas of the options that a flow file can give to a factory, by name."""
    options: dict[str, Schema] = {}
    hints = hints_of(factory)
    for parameter in inspect.signature(factory).parameters.values():
        name = parameter.name
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            continue
        if name.startswith("_") or name in reserved:
            continue
        schema = schema_of(hints.get(name, Any))
        if schema is None or schema == _NULL:
            continue
        if isinstance(parameter.default, str | int | float):
            schema = {**schema, "default": parameter.default}
        options[name] = schema
    return options


def hints_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the parameters of a factory."""
    return get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)


def schema_of(hint: Any) -> Schema | None:
    """Return the JSON Schema of a type; None if a flow file cannot give a value of it."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _any_of([schema_of(one) for one in arguments if one is not NotGiven])
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        items = schema_of(arguments[0])
        return None if items is None else {"type": "array", "items": items}
    if origin is tuple:
        parts = [schema_of(one) for one in arguments]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1]) or {}}
    is_typed_dict = hasattr(hint, "__required_keys__")  # of typing or typing_extensions
    if is_typed_dict or _is_model(hint):
        return {"type": "object"}
    return None


def _any_of(schemas: list[Schema | None]) -> Schema | None:
    choices: list[Any] = []
    others: list[Schema] = []
    for schema in schemas:
        for one in (schema or {}).get("anyOf", [schema]):
            if one is None:
                continue
            if "enum" in one:
                choices += [value for value in one["enum"] if value not in choices]
            elif one not in others:
                others.append(one)
    parts = [*([{"enum": choices}] if choices else []), *others]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def converted(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the types that a factory takes where these are models. Raises ValueError."""
    hints = hints_of(factory) if any(isinstance(value, dict) for value in options.values()) else {}
    made = dict(options)
    for name, value in options.items():
        models = tuple(one for one in _flat(hints.get(name)) if _is_model(one))
        if isinstance(value, dict) and models:
            adapter: TypeAdapter[Any] = TypeAdapter(Union[models])  # type: ignore[arg-type]  # noqa: UP007
            made[name] = adapter.validate_python(value)
    return made


def _is_model(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, BaseModel)


def _flat(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [inner for one in get_args(hint) for inner in _flat(one)]
    return [hint]


def render(options: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of options.json."""
    return json.dumps(options, indent=1, sort_keys=True) + "\n"
