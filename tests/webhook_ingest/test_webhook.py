"""What LiveKit writes is read; what it would never write is refused in one way."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.webhook_ingest.webhook import MalformedWebhook, parse

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "about",
    [
        {"room": {"name": "the-room"}},
        {"room": {}, "egressInfo": {"egressId": "EG_1", "roomName": "the-room"}},
        {"room": {}, "ingressInfo": {"ingressId": "IN_1", "roomName": "the-room"}},
        {"room": {}, "job": {"id": "AJ_1", "room": {"name": "the-room"}}},
    ],
)
def test_the_room_is_found_wherever_livekit_puts_it(
    about: dict[str, Any], webhook: Callable[..., bytes]
) -> None:
    parsed, _ = parse(webhook("anything", **about))

    assert parsed.room_name == "the-room"


def test_a_webhook_about_no_room_names_none(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(room={}))

    assert parsed.room_name == ""


def test_it_happened_when_livekit_says(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(createdAt="1795253401"))

    assert parsed.occurred_at(NOW) == datetime.fromtimestamp(1795253401, UTC)


def test_it_happened_now_when_livekit_does_not_say(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(createdAt="0"))

    assert parsed.occurred_at(NOW) == NOW


def test_the_whole_payload_is_kept_with_fields_that_nobody_knows() -> None:
    _, payload = parse(b'{"event":"room_started","id":"EV_1","fresh":{"deep":[1,null]}}')

    assert payload["fresh"] == {"deep": [1, None]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"event":"room_started"}',
        b'{"id":"EV_1"}',
        b'{"id":"","event":""}',
        b'{"id":"EV_1","event":"x","room":7}',
        b'{"id":"EV_1","event":"x","createdAt":"soon"}',
        b'{"id":"EV_1","event":"x","createdAt":"99999999999999"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_webhook_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        parse(body)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    try:
        parse(body)
    except MalformedWebhook:
        return


def test_the_password_of_a_turn_server_is_not_kept() -> None:
    room = {"name": "r", "turnPassword": "s3cret"}
    body = {"id": "EV_1", "event": "room_started", "room": room, "job": {"id": "AJ_1", "room": room}}

    _, payload = parse(json.dumps(body).encode())

    assert payload == {**body, "room": {"name": "r"}, "job": {"id": "AJ_1", "room": {"name": "r"}}}
