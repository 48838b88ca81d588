import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from antiphon.client import errors
from antiphon.client.errors import AntiphonError, ApiError, StreamBroken, api_error

PROBLEM: dict[str, Any] = {
    "type": "https://antiphon.dev/problems/invalid-request",
    "title": "Invalid request",
    "status": 422,
    "detail": "Not valid: user_id.",
    "errors": [{"field": "user_id", "in": "body", "message": "is missing", "code": "missing"}],
    "request_id": "req_1",
    "session_id": "ses_1",
}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (413, errors.InvalidRequest),
        (418, ApiError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.ServerUnavailable),
        (503, errors.ServerUnavailable),
    ],
)
def test_a_status_has_its_exception(status: int, kind: type[ApiError]) -> None:
    error = api_error(status, json.dumps(PROBLEM).encode(), retry_after=3.0)

    assert type(error) is kind
    assert (error.status, error.retry_after) == (status, 3.0)


def test_the_problem_is_inside() -> None:
    error = api_error(422, json.dumps(PROBLEM).encode())

    assert error.problem.kind == "invalid-request"
    assert (error.title, error.detail, error.request_id) == (
        "Invalid request",
        "Not valid: user_id.",
        "req_1",
    )
    [field] = error.errors
    assert (field.field, field.place, field.message, field.code) == (
        "user_id",
        "body",
        "is missing",
        "missing",
    )
    assert error.problem.members == {"session_id": "ses_1"}
    assert str(error) == "Invalid request (422): user_id: is missing"


@pytest.mark.parametrize(
    ("errors", "detail", "line"),
    [
        (["is of another log: start again"], "after: is of another log: start again.", ""),
        (["takes a day", "takes a day"], None, " after: takes a day"),
        (["is too old"], "The log has less.", " after: is too old"),
    ],
)
def test_nothing_is_said_twice(errors: list[str], detail: str | None, line: str) -> None:
    problem = {
        "type": "https://antiphon.dev/problems/invalid-cursor",
        "title": "Invalid cursor",
        "detail": detail,
        "errors": [{"field": "after", "in": "query", "message": message} for message in errors],
    }

    text = str(api_error(422, json.dumps(problem).encode()))

    assert text == f"Invalid cursor (422): {detail or problem['type']}{line}"


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>502 Bad Gateway</h1>\n</html>",
        b"",
        b"null",
        b"[]",
        b'"text"',
        b'{"detail": 7}',
        b"\xff\xfe",
        b'{"title": "a", "errors": 7, "detail": [], "type": 3}',
        b"[" * 100_000,
    ],
)
def test_any_body_is_an_error_of_one_short_line(body: bytes) -> None:
    error = api_error(502, body, request_id="req_2")

    assert isinstance(error, errors.ServerUnavailable)
    assert "502" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 300
    assert error.request_id == "req_2"


def test_a_proxys_page_is_the_detail() -> None:
    assert "Bad Gateway" in str(api_error(502, b"<html><h1>Bad Gateway</h1></html>"))


def test_time_outs_and_broken_connections_are_also_pythons_own() -> None:
    assert issubclass(errors.Timeout, TimeoutError)
    assert issubclass(errors.ConnectionFailed, ConnectionError)


def every_kind(base: type[AntiphonError] = AntiphonError) -> Iterator[type[AntiphonError]]:
    yield base
    for kind in base.__subclasses__():
        yield from every_kind(kind)


def one_of(kind: type[AntiphonError]) -> AntiphonError:
    if issubclass(kind, ApiError):
        problem = api_error(422, json.dumps(PROBLEM).encode()).problem
        return kind(422, problem, 3.0)
    return kind("damaged", 7) if issubclass(kind, StreamBroken) else kind("it failed")


def pickled(error: AntiphonError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy], ids=["pickled", "copied", "deep"])
@pytest.mark.parametrize("kind", sorted(set(every_kind()), key=str), ids=lambda kind: kind.__name__)
def test_every_error_passes_between_processes(
    kind: type[AntiphonError], again: Callable[[AntiphonError], Any]
) -> None:
    error = one_of(kind)
    error.add_note("seen by a worker")

    same = again(error)

    assert type(same) is kind
    assert (str(same), same.args, vars(same)) == (str(error), error.args, vars(error))
