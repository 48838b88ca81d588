"""Errors as application/problem+json (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from antiphon.chassis.bus import BusUnavailable, HistoryGap, PayloadTooLarge
from antiphon.chassis.database import DatabaseUnavailable

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://antiphon.dev/problems/"

_EXPECTED: tuple[type[Exception], ...] = (
    HTTPException,
    RequestValidationError,
    BusUnavailable,
    HistoryGap,
    DatabaseUnavailable,
    PayloadTooLarge,
)


class Problem(HTTPException):
    """An HTTP error that becomes a problem document.

    `kind` is the stable last part of the problem's `type`, `members` are its extension members.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] | None = None,
        **members: Any,
    ) -> None:
        merged = dict(headers or {})
        if retry_after_seconds is not None:
            merged["Retry-After"] = str(retry_after_seconds)
        super().__init__(status, detail, merged)
        self.kind = kind
        self.members = members if errors is None else {**members, "errors": list(errors)}


def broker_unavailable() -> Problem:
    """Return the problem for an unavailable broker."""
    return Problem(
        503, "broker-unavailable", "The event broker is unavailable; try again.", retry_after_seconds=1
    )


def database_unavailable() -> Problem:
    """Return the problem for an unavailable database."""
    return Problem(
        503,
        "database-unavailable",
        "The database is unavailable; sessions can still be created.",
        retry_after_seconds=2,
    )


def invalid(field: str, where: str, message: str) -> Problem:
    """Return the problem for an invalid field, parameter or header."""
    errors = [{"field": field, "in": where, "message": message}]
    return Problem(422, "invalid-request", f"Not valid: {field}.", errors=errors)


def render(problem: Problem, instance: str) -> Response:
    """Return the problem as a response."""
    body = {
        "type": TYPE_BASE + problem.kind,
        "title": problem.kind.replace("-", " ").capitalize(),
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": instance,
        **problem.members,
    }
    return Response(orjson.dumps(body), problem.status_code, problem.headers, MEDIA_TYPE)


def _kind_of(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "-")


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
        case BusUnavailable() | HistoryGap():
            return broker_unavailable()
        case DatabaseUnavailable():
            return database_unavailable()
        case PayloadTooLarge():
            return Problem(413, "content-too-large", str(error))
        case HTTPException():
            kind = _kind_of(error.status_code)
            return Problem(error.status_code, kind, str(error.detail), headers=error.headers)
        case _:
            return Problem(500, "internal-error", "Internal error; see the server's log.")


def _invalid(error: RequestValidationError) -> Problem:
    errors = [
        {
            "field": ".".join(str(part) for part in where[1:]) or str(where[0]),
            "in": where[0],
            "message": found["msg"].removeprefix("Value error, "),
            "code": found["type"],
        }
        for found in error.errors()
        if (where := found["loc"])
    ]
    fields = ", ".join(dict.fromkeys(str(entry["field"]) for entry in errors))
    return Problem(422, "invalid-request", f"Not valid: {fields}.", errors=errors)


def problem_response(request: Request, error: Exception) -> Response:
    """Return any error as a problem document."""
    return render(_as_problem(error), request.url.path)


def install(app: FastAPI) -> None:
    """Handle the expected errors of the app with problem documents."""
    for kind in _EXPECTED:
        app.add_exception_handler(kind, problem_response)
