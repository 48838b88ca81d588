"""What the page of settings says of a variable, read from the field that takes it."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from antiphon.chassis.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
FILE = "_file"  # the end of a field that names the file with the value of another one
UNITS = ("", "KiB", "MiB", "GiB", "TiB", "PiB")
HOME = "/home/of-the-user"
STRINGS = {"path": "path", "uri": "`http` or `https` URL"}
READERS = {"cli": "the `antiphon` command"}  # others are named as their package
SERVICES = frozenset(path.name for path in (ROOT / "services").iterdir() if (path / "src").is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable of the environment; the texts are Markdown."""

    names: tuple[str, ...]
    default: str
    allowed: str
    description: str
    readers: frozenset[str]
    secret: bool = False


def package_of(owner: type[Any]) -> str:
    """Return the name of the package that declares a class, as `antiphon.fleet`."""
    return ".".join(owner.__module__.split(".")[:2])


def reader_of(owner: type[Any]) -> str:
    """Return the name of the process that reads a class."""
    name = package_of(owner).rpartition(".")[2].replace("_", "-")
    return READERS.get(name, name)


def described(found: object) -> bool:
    """Tell whether something is a dataclass whose fields name variables."""
    return (
        isinstance(found, type)
        and dataclasses.is_dataclass(found)
        and any("description" in field.metadata for field in dataclasses.fields(found))
    )


def fields_of(owner: type[Any]) -> list[Variable]:
    """Return the variables that a class itself declares."""
    return list(_of_settings(owner) if issubclass(owner, Settings) else _of_dataclass(owner))


def _of_settings(owner: type[Settings]) -> Iterator[Variable]:
    concrete = [found for found in (owner, *_below(owner)) if package_of(found) != "antiphon.chassis"]
    properties = owner.model_json_schema()
    for attribute in inspect.get_annotations(owner):
        if attribute not in owner.model_fields:
            continue
        field = owner.model_fields[attribute]
        name = str(field.validation_alias or f"{PREFIX}{attribute.upper()}")
        schema = properties["properties"][field.validation_alias or attribute]
        default = _default(field.default, field.default_factory, name)
        other = {
            reader_of(found): shown
            for found in concrete
            if (own := found.model_fields[attribute])
            and (shown := _default(own.default, own.default_factory, name)) != default
        }
        if default == "required" and (file := owner.model_fields.get(f"{attribute}{FILE}")):
            default = f"required, or `{file.validation_alias}`"
        differ = f" ({', '.join(f'{who}: {what}' for who, what in sorted(other.items()))})" if other else ""
        yield Variable(
            names=(name,),
            default=default + differ,
            allowed=_allowed(schema, properties, name),
            description=field.description or "",
            readers=frozenset(map(reader_of, concrete)) | _recorder(name),
            secret=not field.repr and not attribute.endswith(FILE),
        )


def _of_dataclass(owner: type[Any]) -> Iterator[Variable]:
    for field in dataclasses.fields(owner):
        if field.metadata.get("description") is None:
            continue
        name = field.metadata["variable"]
        factory = None if field.default_factory is dataclasses.MISSING else field.default_factory
        kind: Any = field.type
        schema = TypeAdapter(kind).json_schema()
        yield Variable(
            names=(name,),
            default=_default(field.default, factory, name),
            allowed=_allowed(schema, schema, name),
            description=field.metadata["description"],
            readers=frozenset({reader_of(owner)}),
            secret=not field.repr,
        )


def _recorder(name: str) -> frozenset[str]:
    """Return the recorder if it reads a variable: its settings are no class of the chassis."""
    from antiphon.recorder.settings import RecorderSettings

    reads = {field.metadata.get("variable") for field in dataclasses.fields(RecorderSettings)}
    return frozenset({reader_of(RecorderSettings)} if name in reads else ())


def _below(owner: type[Settings]) -> Iterator[type[Settings]]:
    for found in owner.__subclasses__():
        if found.__module__.startswith("antiphon."):
            yield found
            yield from _below(found)


def _default(value: Any, factory: Callable[..., Any] | None, name: str) -> str:
    if factory is not None:
        return _placed(factory)
    if value in (PydanticUndefined, dataclasses.MISSING):
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return _number(value, name)
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return f"`{value.relative_to(ROOT)}/` of the checkout"
    return f"`{value}`"


def _placed(factory: Callable[[], Any]) -> str:
    """Return a folder of the user as its factory makes it, with and without the variables of XDG."""
    names = [f"XDG_{kind}_HOME" for kind in ("CACHE", "CONFIG", "DATA", "STATE")]
    kept = {key: value for key, value in os.environ.items() if key not in names}
    with patch.dict(os.environ, kept | {"HOME": HOME}, clear=True):
        usual = str(factory()).replace(HOME, "~")
        with patch.dict(os.environ, {name: f"${name}" for name in names}):
            chosen = str(factory())
    return f"`{usual}`" if usual == chosen else f"`{chosen}`, else `{usual}`"


def _allowed(schema: dict[str, Any], root: dict[str, Any], name: str) -> str:
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if options:
        return " or ".join(dict.fromkeys(_allowed(option, root, name) for option in options))
    if "$ref" in schema:
        return _allowed(root["$defs"][schema["$ref"].rpartition("/")[2]], root, name)
    if values := schema.get("enum", [schema[key] for key in ("const",) if key in schema]):
        return ", ".join(f"`{value}`" for value in values)
    match schema.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number" as kind:
            return _range(schema, name) or ("whole number" if kind == "integer" else "number")
        case "string" if "pattern" in schema:
            return f"`{schema['pattern']}`".replace("|", "\\|")
        case "string":
            form = str(schema.get("format", "text"))
            return STRINGS.get(form, form)
    return str(schema.get("type", "any"))


def _range(schema: dict[str, Any], name: str) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    start = f"above {_number(above, name)}" if above is not None else ""
    start = _number(least, name) if least is not None else start
    end = f"below {_number(below, name)}" if below is not None else ""
    end = _number(most, name) if most is not None else end
    if start and end:
        return f"{start} to {end}"
    if start:
        return start if above is not None else f"{start} or more"
    return f"at most {end}" if most is not None else end


def _number(value: float, name: str) -> str:
    power = 0
    if "BYTES" in name:
        while value and value % 1024 == 0 and power < len(UNITS) - 1:
            value, power = value / 1024, power + 1
    text = str(int(value)) if value == int(value) else f"{value:g}"
    return f"{text} {UNITS[power]}" if power else text
