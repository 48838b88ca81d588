"""Errors as application/problem+json (RFC 9457)."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from antiphon.chassis.bus import BusUnavailable, HistoryGap, PayloadTooLarge, StreamFull
from antiphon.chassis.database import DatabaseUnavailable
from antiphon.chassis.http import problem as http
from antiphon.chassis.http.problem import MEDIA_TYPE, TYPE_BASE, Problem
from antiphon.chassis.validation_messages import message_of

__all__ = [
    "MEDIA_TYPE",
    "TYPE_BASE",
    "Problem",
    "broker_unavailable",
    "database_unavailable",
    "install",
    "invalid",
    "problem_response",
]

_EXPECTED: tuple[type[Exception], ...] = (
    HTTPException,
    RequestValidationError,
    BusUnavailable,
    HistoryGap,
    DatabaseUnavailable,
    PayloadTooLarge,
)


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


def invalid(field: str, where: str, message: str, code: str) -> Problem:
    """Return the problem for an invalid field, parameter or header; `code` names the rule for programs."""
    errors = [{"field": field, "in": where, "message": message, "code": code}]
    return Problem(422, "invalid-request", f"Not valid: {field}.", errors=errors)


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
        case StreamFull():
            return Problem(
                503,
                "broker-unavailable",
                "A stream or bucket of the event broker is full: its operator has to make room.",
                retry_after_seconds=30,
            )
        case BusUnavailable() | HistoryGap():
            return broker_unavailable()
        case DatabaseUnavailable():
            return database_unavailable()
        case PayloadTooLarge():
            return Problem(413, "content-too-large", str(error))
        case HTTPException():
            return http.of_status(error)
        case _:
            return Problem(500, "internal-error", "Internal error; see the server's log.")


MAX_ERRORS = 100  # that a response lists; a body can have thousands
MAX_NAMED = 20  # in its detail


def _invalid(error: RequestValidationError) -> Problem:
    errors = [
        {
            "field": _field(where),
            "in": where[0],
            "message": message_of(found),
            "code": found["type"],
        }
        for found in error.errors()[:MAX_ERRORS]
        if (where := found["loc"])
    ]
    fields = ", ".join(list(dict.fromkeys(str(entry["field"]) for entry in errors))[:MAX_NAMED])
    return Problem(422, "invalid-request", f"Not valid: {fields}.", errors=errors)


def _field(where: tuple[str | int, ...]) -> str:
    """Return the name of a field; a repeated parameter has no number."""
    named = where[1:] if where[0] == "body" else where[1:2]
    return ".".join(map(str, named)) or str(where[0])


def problem_response(request: Request, error: Exception) -> Response:
    """Return any error as a problem document."""
    return http.problem_response(request, _as_problem(error))


def install(app: FastAPI) -> None:
    """Handle the expected errors of the app with problem documents."""
    for kind in _EXPECTED:
        app.add_exception_handler(kind, problem_response)
