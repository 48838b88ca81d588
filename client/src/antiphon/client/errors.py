"""Errors of the client: what the server refused, with its problem document, and what never reached it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

TEXT_LENGTH = 200  # characters of a body that is no problem document


class AntiphonError(Exception):
    """The base of every error of this client; its text never contains an API key.

    Errors can be pickled and copied.
    """


class InvalidClientSettings(AntiphonError, ValueError):
    """The address or the API key that was passed, or set in the environment, cannot be used."""


class InvalidArgument(AntiphonError, ValueError):
    """What was passed to a method cannot be sent."""


class ClientClosed(AntiphonError, RuntimeError):
    """The client was closed before this call."""


class ConnectionFailed(AntiphonError, ConnectionError):
    """The server was not reached, or the connection broke before the answer was complete."""


class TlsFailed(ConnectionFailed):
    """No secure connection can be made, as without TLS or with a certificate that is not trusted."""


class Timeout(AntiphonError, TimeoutError):
    """The server did not answer in time, also when the request was repeated."""


class UnreadableResponse(AntiphonError):
    """The answer is not one of session-api: the address may be that of another server."""


class StreamBroken(AntiphonError):
    """The stream of events is damaged at one place, also after reconnecting.

    `after` is the last good event: its sequence, or its cursor in a stream of all sessions.
    """

    def __init__(self, message: str, after: int | str) -> None:
        super().__init__(message)
        self.after = after

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.after), self.__dict__


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field; `place` is `body`, `query`, `path` or `header`."""

    field: str
    message: str
    place: str | None = None
    code: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document (RFC 9457); `members` are its further members, as `session_id` or `scope`.

    `kind` is the last part of `type`, which names the problem: `unknown-session`.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str | None = None
    instance: str | None = None
    errors: Sequence[FieldError] = ()
    request_id: str | None = None
    members: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The name of the problem, without the address of its documentation."""
        return self.type.rpartition("/")[2]


class ApiError(AntiphonError):
    """The server refused the request; `problem` tells why, `retry_after` is in seconds."""

    def __init__(self, status: int, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(_line(status, problem))
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.problem, self.retry_after), self.__dict__

    @property
    def type(self) -> str:
        """The problem's type, a URL with its documentation."""
        return self.problem.type

    @property
    def title(self) -> str:
        """The problem's title."""
        return self.problem.title

    @property
    def detail(self) -> str | None:
        """What happened and what to do."""
        return self.problem.detail

    @property
    def errors(self) -> Sequence[FieldError]:
        """What is wrong with each field."""
        return self.problem.errors

    @property
    def request_id(self) -> str | None:
        """The id of the request in the server's log."""
        return self.problem.request_id


class AuthenticationError(ApiError):
    """401: the API key is missing, unknown, expired or revoked."""


class PermissionDenied(ApiError):
    """403: the API key lacks a scope."""


class NotFound(ApiError):
    """404: there is no such thing for this API key."""


class Conflict(ApiError):
    """409 or 412: the request conflicts with what is there, as a session that has ended."""


class Gone(ApiError):
    """410: what is asked for was erased, as the past of a session."""


class InvalidRequest(ApiError):
    """400, 413, 415 or 422: the request is not valid; `errors` names the fields."""


class RateLimited(ApiError):
    """429: too many requests; `retry_after` says when to try again."""


class ServerUnavailable(ApiError):
    """5xx: the server failed, or something that it needs is not available."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}


def api_error(
    status: int,
    body: bytes,
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
    via: str = "",
) -> ApiError:
    """Return the error of an answer; a body of any other kind, as a proxy's HTML, becomes its detail.

    `via` names the proxy that may have answered.
    """
    kind = _BY_STATUS.get(status, ServerUnavailable if status >= 500 else ApiError)
    return kind(status, _problem(status, body, request_id, via), retry_after)


def _problem(status: int, body: bytes, request_id: str | None, via: str) -> Problem:
    try:
        document = msgspec.json.decode(body)
        members = dict(document)
        title = str(members.pop("title"))
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError):
        text = " ".join(body[: 4 * TEXT_LENGTH].decode(errors="replace").split())[:TEXT_LENGTH]
        detail = " ".join(part for part in (text, via) if part)
        return Problem(title=f"HTTP {status}", status=status, detail=detail or None, request_id=request_id)
    members.pop("status", None)
    return Problem(
        type=_text(members.pop("type", None)) or "about:blank",
        title=title,
        status=status,
        detail=_text(members.pop("detail", None)),
        instance=_text(members.pop("instance", None)),
        errors=_field_errors(members.pop("errors", None)),
        request_id=_text(members.pop("request_id", None)) or request_id,
        members=members,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _field_errors(value: Any) -> tuple[FieldError, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(
        FieldError(
            str(entry.get("field", "")),
            str(entry.get("message", "")),
            _text(entry.get("in")),
            _text(entry.get("code")),
        )
        for entry in entries
        if isinstance(entry, dict)
    )


def _line(status: int, problem: Problem) -> str:
    """Return the text of an error; what its detail says is not said again of a field."""
    only_names = problem.kind == "invalid-request" and problem.errors
    detail = "" if only_names else problem.detail or problem.type
    fields = [f"{error.field}: {error.message}" for error in problem.errors if error.message not in detail]
    title = problem.title if problem.title == f"HTTP {status}" else f"{problem.title} ({status})"
    said = " ".join(part for part in (detail, "; ".join(dict.fromkeys(fields))) if part)
    return f"{title}: {said}"
