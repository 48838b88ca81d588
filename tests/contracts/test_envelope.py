"""Envelopes round-trip; an invalid envelope is rejected with a reason."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID, events

from antiphon.contracts.envelope import committed, decode, encode, seal, seal_encoded
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

REQUEST: dict[str, Any] = {"flow_id": "f", "flow_revision": 1, "user_id": "u", "room": SESSION_ID}
NOW = datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=UTC)


ATTRIBUTES: dict[str, Any] = {
    "id": f"{SESSION_ID}:agent:AJ_1:7",
    "session_id": SESSION_ID,
    "tenant": "default",
    "producer": "agent",
    "producerseq": 7,
    "time": NOW,
}


def sealed(event: Event, traceparent: str | None = None) -> Any:
    return seal(event, **ATTRIBUTES, traceparent=traceparent)


@pytest.mark.parametrize("traceparent", [None, "00-ab-cd-01"])
@given(event=events())
def test_both_ways_to_seal_and_encode_give_the_same_bytes(event: Event, traceparent: str | None) -> None:
    assert seal_encoded(event, **ATTRIBUTES, traceparent=traceparent) == encode(sealed(event, traceparent))


def test_lone_surrogate_is_replaced_by_both_ways_to_seal() -> None:
    event = TurnSaved(turn=1, agent_id="host", user_text="a\ud800b")
    raw = seal_encoded(event, **ATTRIBUTES)
    assert raw == encode(sealed(event))
    assert open_event(decode(raw)) == TurnSaved(turn=1, agent_id="host", user_text="a\ufffdb")


@given(events())
def test_encode_and_decode_round_trip(event: Event) -> None:
    envelope = sealed(event)

    assert decode(encode(envelope)) == envelope
    assert open_event(decode(encode(envelope))) == event


@given(st.text(max_size=20), st.text(max_size=5))  # without surrogates of their own
def test_lone_surrogates_become_replacement_characters(text: str, name: str) -> None:
    lone = f"{text}\ud83d {text}\udc00"
    event = TurnSaved(turn=1, agent_id="host", user_text=lone, metrics={f"{name}\ud83d": [lone]})

    stored = open_event(decode(encode(sealed(event))))

    expected = f"{text}\N{REPLACEMENT CHARACTER} {text}\N{REPLACEMENT CHARACTER}"
    assert isinstance(stored, TurnSaved)
    assert stored.user_text == expected
    assert stored.metrics == {f"{name}\N{REPLACEMENT CHARACTER}": [expected]}
    assert seal_encoded(event, **ATTRIBUTES) == encode(sealed(event))


def test_envelope_is_a_cloud_event() -> None:
    raw = json.loads(encode(sealed(TurnSaved(turn=1, agent_id="host"), traceparent="00-ab-cd-01")))

    assert raw["specversion"] == "1.0"
    assert raw["type"] == "turn.saved"
    assert raw["subject"] == SESSION_ID
    assert raw["time"] == "2026-11-21T09:30:00.123456Z"
    assert raw["dataschema"].endswith("/turn.saved/1")
    assert raw["traceparent"] == "00-ab-cd-01"
    assert not {"sequence", "position"} & raw.keys()


def test_commit_adds_only_sequence_and_position() -> None:
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
def test_invalid_field_raises_with_its_name(change: dict[str, Any], names: str | None) -> None:
    raw = json.loads(encode(sealed(TurnSaved(turn=1, agent_id="host"))))
    broken = json.dumps(raw | change).encode()

    if names is None:
        with pytest.raises(MalformedEvent):
            open_event(decode(broken))
        return
    with pytest.raises(MalformedEvent, match=names):
        decode(broken)


def test_deeply_nested_body_is_malformed() -> None:
    deep = replace(sealed(SessionRequested(**REQUEST)), data=Raw(b'{"metadata":' + b"[" * 9999))

    with pytest.raises(MalformedEvent):
        open_event(deep)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"specversion":"1.0"}'])
def test_bytes_that_are_not_an_envelope_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(raw)
