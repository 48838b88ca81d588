"""The reference of flow files, which `make contracts` writes to docs/reference/flow-file.md."""

import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from antiphon.agent_worker.flow.schema import flow_json_schema

_PLAIN = {"string": "text", "boolean": "`true` or `false`", "number": "number", "integer": "number"}


def render_reference() -> str:
    """Return the text of docs/reference/flow-file.md."""
    schema = flow_json_schema()
    parts = {"Flow": schema, **schema["$defs"]}
    sections = [_section(name, part) for name, part in parts.items()]
    introduction = files(__package__).joinpath("reference.txt").read_text()
    return "\n".join([introduction, "## Keys\n", *sections])


def _section(name: str, part: dict[str, Any]) -> str:
    about = part.get("description", "")
    return "\n".join(
        [f"### {name}\n", f"{about}\n", "| key | value | meaning |", "|---|---|---|", *_rows(part), ""]
    )


def _rows(part: dict[str, Any]) -> Iterator[str]:
    required = part.get("required", [])
    for key, value in part.get("properties", {}).items():
        default = "required" if key in required else _default(value)
        meaning = value.get("description", "").replace("|", "\\|")
        kind = _kind(value)
        yield f"| `{key}` | {kind}{f'; {default}' if default else ''} | {meaning} |"


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ([], {}) or isinstance(default, dict):
        return ""
    return f"default `{str(default).lower() if isinstance(default, bool) else default}`"


def _kind(value: dict[str, Any]) -> str:
    """Return the type of a value in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        kinds = [_kind(one) for one in value["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{str(value['const']).lower()}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"list of {_kind(value['items'])}"
    return f"{_inner(value)} by name" if kind == "object" else _PLAIN.get(str(kind), "any value")


def _inner(value: dict[str, Any]) -> str:
    inner: Any = value.get("additionalProperties") or next(
        iter(value.get("patternProperties", {}).values()), {}
    )
    return _kind(inner) if isinstance(inner, dict) else "any value"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
