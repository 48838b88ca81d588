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
    schema = _body_schema(document, operation)
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in schema["properties"].items():
        needed = "required; " if name in schema.get("required", ()) else ""
        yield f"| `{name}` | {_type(document, field)} | {needed}{field.get('description', '')} |"
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
        yield f"**{status}** {answer['description']}."
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


def _type(document: Node, schema: Node) -> str:
    if "$ref" in schema:
        return _type(document, _resolved(document, schema))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        options = [_type(document, option) for option in schema["anyOf"]]
        return " or ".join(dict.fromkeys(options))
    if schema.get("type") == "array":
        return f"any of {_type(document, schema['items'])}"
    kind = str(schema.get("format", schema.get("type", "any")))
    default = f", default {schema['default']}" if schema.get("default") is not None else ""
    return kind + _bounds(schema) + default


def _bounds(schema: Node) -> str:
    least = schema.get("minimum", schema.get("minLength"))
    most = schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema else ""
    if most is None:
        return ""
    return f", {least} to {most}{unit}" if least is not None else f", at most {most}{unit}"


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
