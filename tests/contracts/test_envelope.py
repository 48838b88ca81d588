"""An envelope says what it means, there and back; what is no envelope is refused with a reason."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, events

from antiphon.contracts.envelope import committed, decode, encode, seal
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

REQUEST: dict[str, Any] = {"flow_id": "f", "flow_revision": 1, "user_id": "u", "room": SESSION_ID}
NOW = datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=UTC)


def sealed(event: Event, traceparent: str | None = None) -> Any:
    return seal(
        event,
        id=f"{SESSION_ID}:agent:AJ_1:7",
        session_id=SESSION_ID,
        tenant="default",
        producer="agent",
        producerseq=7,
        time=NOW,
        traceparent=traceparent,
    )


@given(events())
def test_encode_then_decode_is_the_identity(event: Event) -> None:
    envelope = sealed(event)

    assert decode(encode(envelope)) == envelope
    assert open_event(decode(encode(envelope))) == event


def test_it_is_a_cloud_event() -> None:
    raw = json.loads(encode(sealed(TurnSaved(turn=1, agent_id="host"), traceparent="00-ab-cd-01")))

    assert raw["specversion"] == "1.0"
    assert raw["type"] == "turn.saved"
    assert raw["subject"] == SESSION_ID
    assert raw["time"] == "2026-11-21T09:30:00.123456Z"
    assert raw["dataschema"].endswith("/turn.saved/1")
    assert raw["traceparent"] == "00-ab-cd-01"
    assert not {"sequence", "position"} & raw.keys()


def test_a_commit_adds_its_two_numbers_and_changes_nothing_else() -> None:
    envelope = sealed(TurnSaved(turn=1, agent_id="host"))

    raw = json.loads(encode(committed(envelope, sequence=3, position=99)))

    assert (raw.pop("sequence"), raw.pop("position")) == (3, 99)
    assert raw == json.loads(encode(envelope))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"subject": "room-1"}, "subject"),
        ({"tenant": "Not.A.Token"}, "tenant"),
        ({"time": "2026-11-21T09:30:00"}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"id": ""}, "id"),
        ({"producerseq": -1}, "producerseq"),
        ({"data": None}, None),
    ],
)
def test_what_breaks_the_envelope_is_named(change: dict[str, Any], names: str | None) -> None:
    raw = json.loads(encode(sealed(TurnSaved(turn=1, agent_id="host"))))
    broken = json.dumps(raw | change).encode()

    if names is None:
        with pytest.raises(MalformedEvent):
            open_event(decode(broken))
        return
    with pytest.raises(MalformedEvent, match=names):
        decode(broken)


def test_a_body_that_is_nested_without_end_is_malformed() -> None:
    deep = replace(sealed(SessionRequested(**REQUEST)), data=Raw(b'{"metadata":' + b"[" * 9999))

    with pytest.raises(MalformedEvent):
        open_event(deep)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"specversion":"1.0"}'])
def test_what_is_no_envelope_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(raw)
