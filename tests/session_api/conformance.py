"""Hold real responses against the OpenAPI document: status, media type, headers, body, events of streams."""

import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Json = dict[str, Any]

STREAM = "text/event-stream"
LINES = "application/x-ndjson"
DOCUMENT = "urn:openapi"


class Conformance:
    """The document of one service, and what its responses must be."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self._registry: Registry[Any] = Registry().with_resource(
            DOCUMENT, DRAFT202012.create_resource(document)
        )
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"), operations)
            for path, operations in document["paths"].items()
        ]

    def check(self, response: httpx.Response) -> None:
        """Require that the document describes this response."""
        request = response.request
        where = f"{request.method} {request.url.path}: {response.status_code}"
        documented = self._resolved(self._operation(request)["responses"].get(str(response.status_code)))
        assert documented, f"{where} is not documented"
        for name, header in documented.get("headers", {}).items():
            if (value := response.headers.get(name)) is not None:
                self.validate(value, self._resolved(header)["schema"], f"{where}, {name}")
        content = documented.get("content")
        if not content:
            assert response.content == b"", f"{where} has a body"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in content, f"{where} has the media type {media_type}"
        if media_type in (STREAM, LINES):
            found = stream_events(response.text) if media_type == STREAM else exported_events(response)
            for event in found:
                self.event(event, where)
        elif media_type.endswith("json"):
            self.validate(response.json(), content[media_type]["schema"], where)

    def validate(self, value: Any, schema: Json, where: str) -> None:
        """Require that a value fits a schema of the document."""
        validator = Draft202012Validator(
            absolute(schema), registry=self._registry, format_checker=FormatChecker()
        )
        errors = [
            f"{where}, {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)
        ]
        assert not errors, errors[0]

    def event(self, event: Json, where: str) -> None:
        """Require that an event fits the schema of its type, and no other."""
        schema = self.document["components"]["schemas"]["Event"]
        self.validate(event, {"$ref": schema["discriminator"]["mapping"][event["type"]]}, where)
        self.validate(event, schema, where)

    def _operation(self, request: httpx.Request) -> Json:
        for pattern, operations in self._paths:
            if pattern.fullmatch(request.url.path):
                operation = operations.get(request.method.lower())
                if operation is not None:
                    return dict(operation)
                # a method that the path does not have
                return dict(next(iter(operations.values())))
        raise AssertionError(f"{request.method} {request.url.path} is not documented")

    def _resolved(self, node: Json | None) -> Json:
        if node is None or "$ref" not in node:
            return node or {}
        found: Any = self.document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)


def absolute(node: Any) -> Any:
    """Return a schema whose references name the document, which it is not in."""
    if isinstance(node, dict):
        return {key: DOCUMENT + value if key == "$ref" else absolute(value) for key, value in node.items()}
    return [absolute(item) for item in node] if isinstance(node, list) else node


def exported_events(response: httpx.Response) -> list[Any]:
    """Return the events of an export, whose bodies are whole unless personal fields are left out."""
    if response.request.url.params.get("without_pii") == "true":
        return []
    lines = [json.loads(line) for line in response.text.splitlines()]
    return [line for line in lines if "cursor" not in line]


def stream_events(text: str) -> list[Any]:
    """Return the events of a stream."""
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]
