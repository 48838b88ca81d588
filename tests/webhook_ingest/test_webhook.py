"""Webhooks are parsed and mapped to events; any other body is malformed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.contracts.events.livekit import LiveKitOther
from antiphon.webhook_ingest.webhook import MalformedWebhook, as_event, parse

NAMES = [
    "room_started",
    "room_finished",
    "participant_joined",
    "participant_left",
    "participant_connection_aborted",
    "track_published",
    "track_unpublished",
    "egress_started",
    "egress_updated",
    "egress_ended",
    "ingress_started",
    "ingress_ended",
    "agent_job_pending",
    "agent_job_started",
    "agent_job_ended",
]
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
def test_room_name_is_found_in_every_kind_of_webhook(
    about: dict[str, Any], webhook: Callable[..., bytes]
) -> None:
    parsed, _ = parse(webhook("anything", **about))

    assert parsed.room_name == "the-room"


def test_webhook_without_a_room_has_no_room_name(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(room={}))

    assert parsed.room_name == ""


def test_time_comes_from_created_at(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(createdAt="1795253401"))

    assert parsed.occurred_at(NOW) == datetime.fromtimestamp(1795253401, UTC)


def test_time_defaults_to_now(webhook: Callable[..., bytes]) -> None:
    parsed, _ = parse(webhook(createdAt="0"))

    assert parsed.occurred_at(NOW) == NOW


def test_payload_keeps_unknown_fields() -> None:
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
def test_other_body_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhook):
        parse(body)


@given(st.binary(max_size=200))
def test_parser_raises_only_malformed_webhook(body: bytes) -> None:
    try:
        parse(body)
    except MalformedWebhook:
        return


def test_turn_password_is_removed() -> None:
    room = {"name": "r", "turnPassword": "s3cret"}
    body = {"id": "EV_1", "event": "room_started", "room": room, "job": {"id": "AJ_1", "room": room}}

    _, payload = parse(json.dumps(body).encode())

    assert payload == {**body, "room": {"name": "r"}, "job": {"id": "AJ_1", "room": {"name": "r"}}}


@pytest.mark.parametrize("name", NAMES)
def test_webhook_becomes_the_event_of_its_name(name: str, webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook(name)))

    assert f"livekit.{name}" == event.TYPE


def test_unknown_webhook_becomes_other(webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook("room_renamed")))

    assert isinstance(event, LiveKitOther)
    assert event.name == "room_renamed"


def test_webhook_named_other_keeps_its_name(webhook: Callable[..., bytes]) -> None:
    event = as_event(*parse(webhook("other")))

    assert isinstance(event, LiveKitOther)
    assert event.name == "other"


def test_event_has_participant_and_track(webhook: Callable[..., bytes], session_id: str) -> None:
    body = webhook(
        "track_published",
        room={"sid": "RM_1", "name": session_id},
        participant={"sid": "PA_1", "identity": "caller"},
        track={"sid": "TR_1", "type": "AUDIO"},
    )

    event = as_event(*parse(body))

    assert (event.room, event.room_sid) == (session_id, "RM_1")
    assert (event.participant_identity, event.participant_sid) == ("caller", "PA_1")
    assert event.track_sid == "TR_1"
    assert event.payload["track"] == {"sid": "TR_1"}
