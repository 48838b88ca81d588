"""The OpenAPI document: FastAPI's, completed with what holds for every route."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from antiphon.session_api.components import reference, schemas
from antiphon.session_api.problem_pages import as_page
from antiphon.session_api.problem_types import PROBLEMS
from antiphon.session_api.route_docs import AUTHENTICATION, EVERY_ROUTE, Statuses, answer, problems

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
    {
        "name": "flows",
        "description": "The flows that an agent can run, each with its newest revision.",
    },
    {
        "name": "problems",
        "description": "What each `type` of a problem means, and what to do; without a key.",
    },
]
REQUEST_ID = {
    "description": "identifies the request in the service's log",
    "schema": {"type": "string"},
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
    components["headers"] = {"X-Request-Id": REQUEST_ID}
    document["security"] = [{"ApiKey": []}]
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation)
    document["paths"] |= _problem_paths()
    return document


def _complete(operation: Node) -> None:
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    responses: Node = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI's own; ours are problems
    for status, documented in problems(*AUTHENTICATION, *EVERY_ROUTE).items():
        responses.setdefault(str(status), documented)
    for documented in responses.values():
        headers = documented.setdefault("headers", {})
        headers["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
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
    example = {name: getattr(explained[0], name) for name in explained[0].__struct_fields__}
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
