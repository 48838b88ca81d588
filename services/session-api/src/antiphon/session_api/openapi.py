"""The OpenAPI document: FastAPI's, completed with what holds for every route."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from antiphon.session_api.components import reference, schemas
from antiphon.session_api.problem_pages import as_page
from antiphon.session_api.problem_types import PROBLEMS
from antiphon.session_api.problems import MEDIA_TYPE
from antiphon.session_api.route_docs import (
    AUTHENTICATED,
    EVERY_ROUTE,
    PROBLEMS_OF,
    Statuses,
    answer,
    problems,
)

Node = dict[str, Any]

SECURITY = {
    "ApiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key: `Authorization: Bearer <key>`. It belongs to a tenant and has scopes.",
    }
}
SERVERS = [{"url": "/", "description": "the service that serves this document"}]
TAGS = [
    {"name": "sessions", "description": "Create, join, inspect, follow and end sessions."},
    {"name": "events", "description": "Read and follow the events of all sessions."},
    {
        "name": "flows",
        "description": "The flows that an agent can run, each with its newest revision.",
    },
    {"name": "analytics", "description": "Figures of many sessions, by the day on which they began."},
    {"name": "keys", "description": "Make, list, rotate and revoke API keys; with the scope `admin`."},
    {"name": "audit", "description": "Who changed keys and flows, and what was erased; with `admin`."},
    {
        "name": "problems",
        "description": "What each `type` of a problem means, and what to do; without a key.",
    },
]
HEADERS = {
    "X-Request-Id": "identifies the request in problems and in the service's log; yours, if you sent one",
    "RateLimit": "what is left of each limit: `r` requests, and `t` seconds until it is full again",
    "RateLimit-Policy": "the limits: `q` requests in `w` seconds",
    "ETag": "of this representation: send it as `If-None-Match` to get 304 while it is the same",
}
_OF_FASTAPI = {"HTTPValidationError", "ValidationError"}  # of its 422, which ours replaces


def install(app: FastAPI) -> None:
    """Make the app serve the complete OpenAPI document; operations are named after their functions."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.operation_id is None:
            route.operation_id = _camel(route.name)

    def document() -> Node:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's documented way


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _document(app: FastAPI) -> Node:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
        servers=SERVERS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document.setdefault("components", {})
    found = schemas(components.get("schemas", {}))
    components["schemas"] = {name: found[name] for name in sorted(found) if name not in _OF_FASTAPI}
    components["securitySchemes"] = SECURITY
    components["headers"] = {
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in HEADERS.items()
    }
    document["security"] = [{"ApiKey": []}]
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                _restore_examples(operation, route)
                _complete(operation, reading=method == "GET")
    document["paths"] |= _problem_paths()
    return document


def _restore_examples(operation: Node, route: APIRoute) -> None:
    """Put the examples of answers back as they were: FastAPI leaves out what is null."""
    for status, given in route.responses.items():
        for media_type, content in given.get("content", {}).items():
            if "example" in content:
                operation["responses"][str(status)]["content"][media_type]["example"] = content["example"]


def _complete(operation: Node, *, reading: bool) -> None:
    """Add what holds for every route with a key: its problems, headers, and 304 for what is read."""
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    responses: Node = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI's own; ours are problems
    names = (*operation.pop(PROBLEMS_OF, ()), *AUTHENTICATED, *EVERY_ROUTE)
    for status, documented in problems(*names).items():
        own = responses.get(str(status), {}).get("content", {}).get(MEDIA_TYPE, {})
        documented["content"][MEDIA_TYPE]["examples"] |= own.get("examples", {})
        responses[str(status)] = documented
    if reading:
        responses["304"] = {"description": "It is still what `If-None-Match` names"}
    for status, documented in responses.items():
        etag = ("ETag",) if reading and status in {"200", "304"} else ()
        headers = documented.setdefault("headers", {})
        for name in ("X-Request-Id", "RateLimit", "RateLimit-Policy", *etag):
            headers[name] = {"$ref": f"#/components/headers/{name}"}
    operation["responses"] = dict(sorted(responses.items()))


def _without_null(schema: Node) -> Node:
    """Return the schema of a parameter without null, which a query cannot express, and without its title."""
    schema = {name: value for name, value in schema.items() if name not in {"title", "description"}}
    match [option for option in schema.pop("anyOf", ()) if option != {"type": "null"}]:
        case [only]:
            return {**schema, **only}
        case []:
            return schema
        case options:
            return {**schema, "anyOf": options}


def _problem_paths() -> Node:
    """Return the paths of the pages about problems, which need no key and are no routes of FastAPI."""
    explained = [as_page(problem) for problem in PROBLEMS.values()]
    example = msgspec.json.decode(msgspec.json.encode(explained[0]))
    html = {"text/html": {"schema": {"type": "string"}}}
    one = answer("The problem type", reference("ProblemPage"), example)
    every = answer("All problem types", reference("ProblemList"), {"problems": [example], "next": None})
    for documented in (one, every):
        documented["content"] |= html
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "the last part of the problem's `type`",
        "schema": {"type": "string"},
        "example": explained[0].name,
    }
    unknown = problems("unknown-problem", *EVERY_ROUTE)
    responses: Node = {"200": one}
    responses |= {str(status): more for status, more in unknown.items()}
    return {
        "/problems": {"get": _public("listProblems", "List all problem types", {200: every}, EVERY_ROUTE)},
        "/problems/{name}": {
            "get": {
                **_public("getProblem", "Explain one problem type", {200: one}, ()),
                "parameters": [name],
                "responses": responses,
            }
        },
    }


def _public(operation_id: str, summary: str, answers: Statuses, names: tuple[str, ...]) -> Node:
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["problems"],
        "security": [],
        "responses": {str(status): more for status, more in {**answers, **problems(*names)}.items()},
    }
