"""Errors as application/problem+json (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from antiphon.chassis.http.metrics import problems

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://antiphon.dev/problems/"


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


def of_status(error: HTTPException) -> Problem:
    """Return the framework's own error, as for an unknown path, as a problem."""
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers)


def encode_problem(problem: Problem, *, instance: str | None, request_id: str | None) -> bytes:
    """Return the problem document; a request that could not be read has no `instance`."""
    problems.add(1, problem.kind)
    document: dict[str, Any] = {
        "type": TYPE_BASE + problem.kind,
        "title": problem.kind.replace("-", " ").capitalize(),
        "status": problem.status_code,
        "detail": problem.detail,
    }
    if instance is not None:
        document["instance"] = instance
    if request_id is not None:
        document["request_id"] = request_id
    return msgspec.json.encode({**document, **problem.members})


def problem_response(request: Request, problem: Problem) -> Response:
    """Return the problem as the response to a request."""
    request_id = request.scope.get("state", {}).get("request_id")
    body = encode_problem(problem, instance=request.scope["path"], request_id=request_id)
    return Response(body, problem.status_code, problem.headers, MEDIA_TYPE)
