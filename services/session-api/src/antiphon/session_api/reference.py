"""Print docs/reference/http-api.md, from the OpenAPI document: `python -m antiphon.session_api.reference`.

With `--check PATH`, exit with 1 when the file at that path is not what would be printed.
"""

import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import Dependencies
from antiphon.session_api.flows.source import YAML
from antiphon.session_api.problem_types import PROBLEMS

Node = dict[str, Any]

COMMAND = "python -m antiphon.session_api.reference > docs/reference/http-api.md"
SHOWN_EXAMPLE_CHARACTERS = 1500
EVENT = "Event"  # the schema of all kinds of events, which have a page of their own


class _Unused:
    """Stands for the dependencies of an app that answers no request."""

    def __getattr__(self, name: str) -> "_Unused":
        return self


def openapi_document() -> Node:
    """Return the OpenAPI document, without a running service."""
    return create_app(cast("Dependencies", _Unused())).openapi()


def markdown(document: Node) -> str:
    """Return the reference of an OpenAPI document."""
    head, guide = files(__package__).joinpath("reference.txt").read_text().split("<!-- routes -->\n")
    return "\n".join(
        [
            f"<!-- generated: {COMMAND} -->",
            head,
            *_overview(document),
            *(
                line
                for name, path, o in _operations(document)
                for line in _operation(document, name, path, o)
            ),
            guide,
            *_problems(),
            *_objects(document),
            *_headers(document),
            "",
        ]
    )


def _operations(document: Node) -> Iterator[tuple[str, str, Node]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _overview(document: Node) -> Iterator[str]:
    yield "| request | | operation |"
    yield "|---|---|---|"
    for method, path, operation in _operations(document):
        anchor = operation["operationId"].lower()
        summary = str(operation.get("description", operation["summary"])).partition("\n")[0]
        yield f"| `{method} {path}` | {summary} | [`{operation['operationId']}`](#{anchor}) |"
    yield ""


def _operation(document: Node, method: str, path: str, operation: Node) -> Iterator[str]:
    yield f"## {operation['operationId']}"
    yield ""
    yield f"`{method} {path}`. {operation.get('description', operation['summary'])}"
    yield ""
    yield from _parameters(document, operation)
    yield from _body(document, operation)
    yield from _curl(document, method, path, operation)
    yield from _answers(operation)


def _parameters(document: Node, operation: Node) -> Iterator[str]:
    parameters = operation.get("parameters", [])
    if parameters:
        yield "| parameter | in | type | |"
        yield "|---|---|---|---|"
        for parameter in parameters:
            name = parameter["name"] + ("[key]" if parameter.get("style") == "deepObject" else "")
            kind = _type(document, parameter["schema"])
            yield f"| `{name}` | {parameter['in']} | {kind} | {parameter.get('description', '')} |"
        yield ""


def _body(document: Node, operation: Node) -> Iterator[str]:
    if "requestBody" not in operation:
        return
    yield from _fields(document, _body_schema(document, operation))


def _fields(document: Node, schema: Node) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        words = ["required"] if name in schema.get("required", ()) else []
        words += [field["description"]] if "description" in field else []
        yield f"| `{name}` | {_type(document, field)} | {'; '.join(words)} |"
    yield ""


def _body_schema(document: Node, operation: Node) -> Node:
    schema: Node = operation["requestBody"]["content"]["application/json"]["schema"]
    named = [option for option in (schema, *schema.get("anyOf", ())) if "$ref" in option]
    return _resolved(document, named[0]) if named else schema


def _curl(document: Node, method: str, path: str, operation: Node) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            examples = parameter["schema"].get("examples", [parameter.get("example", "…")])
            path = path.replace(f"{{{parameter['name']}}}", str(examples[0]))
    public = operation.get("security") == []
    yield "```sh"
    yield " ".join(
        [
            f'curl{"" if method == "GET" else f" -X {method}"} "$API{path}"',
            *([] if public else ['-H "Authorization: Bearer $KEY"']),
            *(_example_body(document, operation) if "requestBody" in operation else []),
        ]
    )
    yield "```"
    yield ""


def _example_body(document: Node, operation: Node) -> list[str]:
    """Return the options of curl for a body: a file, or JSON made from the examples of its fields."""
    media_type = next(iter(operation["requestBody"]["content"]))
    if media_type == YAML:
        return [f'-H "Content-Type: {YAML}"', "--data-binary @booking.yaml"]
    fields = _body_schema(document, operation)["properties"]
    body = {name: field["examples"][0] for name, field in fields.items() if field.get("examples")}
    return ['-H "Content-Type: application/json"', f"-d '{json.dumps(body)}'"]


def _answers(operation: Node) -> Iterator[str]:
    shown = False
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            continue
        yield f"**{status}** {answer['description']}.{_holds(answer)}"
        yield ""
        example = answer.get("content", {}).get("application/json", {}).get("example")
        if example is not None and not shown:
            shown = True
            text = json.dumps(example, indent=2, ensure_ascii=False)
            if len(text) <= SHOWN_EXAMPLE_CHARACTERS:
                yield from ("```json", text, "```", "")
    kinds = [
        f"{status} {', '.join(f'`{kind}`' for kind in media['examples'])}"
        for status, answer in operation["responses"].items()
        if (media := answer.get("content", {}).get("application/problem+json"))
    ]
    yield f"Problems: {'; '.join(kinds)}."
    yield ""


def _holds(answer: Node) -> str:
    """Return the objects and the headers of an answer, in words."""
    schemas = [media.get("schema", {}) for media in answer.get("content", {}).values()]
    objects = [_link(schema["$ref"].rpartition("/")[2]) for schema in schemas if "$ref" in schema]
    headers = [
        f"`{name}` ({header['description']})"
        for name, header in answer.get("headers", {}).items()
        if "description" in header  # the others are those of all answers
    ]
    body = f" Body: {' or '.join(dict.fromkeys(objects))}." if objects else ""
    return body + (f" Headers: {', '.join(headers)}." if headers else "")


def _objects(document: Node) -> Iterator[str]:
    """Yield the objects that answers and bodies hold; those of events have a page."""
    schemas = document["components"]["schemas"]
    yield from ("", "## Objects", "")
    for name in sorted(_reached(schemas, document["paths"], set())):
        if name != EVENT and "properties" in schemas[name]:
            yield from (f"### {name}", "")
            if about := schemas[name].get("description"):
                yield from (about, "")
            yield from _fields(document, schemas[name])


def _reached(schemas: Node, node: Any, found: set[str]) -> set[str]:
    """Return the names of the schemas that a part of the document refers to, but for the kinds of events."""
    if isinstance(node, list):
        for each in node:
            _reached(schemas, each, found)
    elif isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/schemas/")[2]
        if name in schemas and name not in found:
            found.add(name)
            if name != EVENT:
                _reached(schemas, schemas[name], found)
        _reached(schemas, list(node.values()), found)
    return found


def _headers(document: Node) -> Iterator[str]:
    yield from ("## Headers of answers", "", "| header | |", "|---|---|")
    for name, header in document["components"]["headers"].items():
        yield f"| `{name}` | {header['description']} |"


def _link(name: str) -> str:
    return f"[{name}]({'events.md' if name == EVENT else f'#{name.lower()}'})"


def _type(document: Node, schema: Node) -> str:
    if "$ref" in schema:
        name, resolved = schema["$ref"].rpartition("/")[2], _resolved(document, schema)
        return _link(name) if "properties" in resolved or name == EVENT else _type(document, resolved)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        options = [_type(document, option) for option in schema["anyOf"]]
        return " or ".join(dict.fromkeys(options))
    if schema.get("type") == "array":
        item = _type(document, schema["items"])
        return f"any of {item}" if "`" in item else f"list of {item}"
    if isinstance(values := schema.get("additionalProperties"), dict) and values:
        return f"object of {_type(document, values)}"
    kinds = schema.get("type", "any")
    kind = str(schema.get("format", kinds if isinstance(kinds, str) else " or ".join(kinds)))
    default = f", default {schema['default']}" if schema.get("default") is not None else ""
    return kind + _bounds(schema) + _pattern(schema) + default


def _bounds(schema: Node) -> str:
    least = schema.get("minimum", schema.get("minLength"))
    most = schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema else ""
    if most is None:
        return ""
    return f", {least:.15g} to {most:.15g}{unit}" if least is not None else f", at most {most:.15g}{unit}"


def _pattern(schema: Node) -> str:
    return f", `{schema['pattern']}`".replace("|", "\\|") if "pattern" in schema else ""


def _resolved(document: Node, schema: Node) -> Node:
    if "$ref" not in schema:
        return schema
    found: Node = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _problems() -> Iterator[str]:
    yield "| status | type | what happened | what to do |"
    yield "|---|---|---|---|"
    for problem in sorted(PROBLEMS.values(), key=lambda problem: problem.statuses):
        statuses = ", ".join(map(str, problem.statuses))
        yield f"| {statuses} | `{problem.name}` | {problem.happened} | {problem.advice} |"


def main(arguments: list[str]) -> int:
    """Print the reference, or compare it with a file."""
    text = markdown(openapi_document())
    match arguments:
        case []:
            sys.stdout.write(text)
            return 0
        case ["--check", path]:
            if Path(path).read_text() == text:
                return 0
            sys.stderr.write(f"{path} is not what the code says: run {COMMAND}\n")
            return 1
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
