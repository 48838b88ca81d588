import inspect
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from antiphon.client import Antiphon, AsyncAntiphon, Session, UnreadableResponse
from antiphon.client.calls import MAX_BODY_BYTES, Body, Reply, as_params, decoded, path_part
from antiphon.client.errors import Timeout

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("9" * 30, 24 * 3600.0),
        ("Thu, 01 Jan 2026 00:00:07 GMT", 7.0),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert Reply(503, {"retry-after": text}, b"").retry_after(NOW) == seconds


def test_a_redirect_says_what_to_do() -> None:
    error = Reply(307, {"location": "https://elsewhere/"}, b"").error()

    assert error.status == 307
    assert "base_url" in str(error)


def test_a_path_is_not_left() -> None:
    assert path_part("ses_1") == "ses_1"
    assert path_part("../keys?x#y") == "..%2Fkeys%3Fx%23y"
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match="is not an id"):
            path_part(bad)


def test_parameters_are_repeated_and_times_have_a_zone() -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    assert as_params({"status": ["ready", "active"], "created_after": at}) == [
        ("status", "ready"),
        ("status", "active"),
        ("created_after", "2026-01-01T12:00:00+02:00"),
    ]
    with pytest.raises(ValueError, match="time zone"):
        as_params({"created_after": datetime(2026, 1, 1)})  # noqa: DTZ001 - the one without a zone


def test_a_body_is_bounded_in_bytes_and_in_time() -> None:
    body = Body(lambda: 0.0, 1.0)
    body.add(b"x")
    with pytest.raises(UnreadableResponse, match="longer"):
        body.add(bytes(MAX_BODY_BYTES))

    clock = iter([0.0, 0.5, 1.5])
    body = Body(lambda: next(clock), 1.0)
    body.add(b"a")
    with pytest.raises(Timeout):
        body.add(b"b")


def test_unknown_fields_and_values_of_a_newer_server_are_read() -> None:
    newer = b'{"session_id": "ses_1", "tenant": "t", "status": "transferred", "moon": {"phase": 1}}'

    session = decoded(msgspec.json.Decoder(Session), newer)

    assert session.status == "transferred"
    assert not session.ended


@pytest.mark.parametrize("raw", [b"<p>Welcome</p>", b"[]", b'{"status": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_answer_of_session_api_is_named(raw: bytes) -> None:
    with pytest.raises(UnreadableResponse, match="is base_url its address"):
        decoded(msgspec.json.Decoder(Session), raw)


def _methods(resource: object) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(getattr(resource, name)).replace(return_annotation=inspect.Signature.empty)
        for name in dir(resource)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("part", ["sessions", "flows", "keys", "audit"])
def test_both_clients_have_the_same_methods(part: str) -> None:
    where = ("http://127.0.0.1:1", "a-key")

    assert _methods(getattr(Antiphon(*where), part)) == _methods(getattr(AsyncAntiphon(*where), part))


def test_methods_have_a_documentation() -> None:
    sessions = Antiphon("http://127.0.0.1:1", "a-key").sessions

    for name in ("create", "get", "list", "turns", "events", "stream", "end", "token"):
        assert getattr(sessions, name).__doc__
    assert "user_id" in inspect.signature(sessions.create).parameters
