"""The catalogue decodes every known event and rejects the rest with a clear error."""

from datetime import UTC, datetime

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import SESSION_ID

from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.errors import MalformedEvent, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import BY_TYPE, EVENTS, family_of, open_event


def envelope() -> Envelope:
    return seal(
        TurnSaved(turn=1, agent_id="host"),
        id="x",
        session_id=SESSION_ID,
        tenant="default",
        producer="agent",
        producerseq=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_event_types_are_unique() -> None:
    assert len(BY_TYPE) == len(EVENTS)


def test_unregistered_type_is_unknown() -> None:
    with pytest.raises(UnknownEventType, match=r"turn\.eaten"):
        open_event(replace(envelope(), type="turn.eaten"))
    with pytest.raises(UnknownEventType, match=r"turn\.eaten"):
        family_of("turn.eaten")


def test_a_newer_version_is_unsupported() -> None:
    with pytest.raises(UnsupportedEventVersion, match=r"turn\.saved version 2"):
        open_event(replace(envelope(), dataschema="https://antiphon.dev/schemas/turn.saved/2"))


@pytest.mark.parametrize("schema", ["turn.saved", "x/-1", "x/0", "x/1.0", "x/٣", "x/32768", "x/" + "9" * 250])
@pytest.mark.parametrize("event_type", ["turn.saved", "turn.eaten"])
def test_a_dataschema_without_a_readable_version_is_malformed(schema: str, event_type: str) -> None:
    with pytest.raises(MalformedEvent, match="dataschema"):
        open_event(replace(envelope(), type=event_type, dataschema=schema))


@pytest.mark.parametrize("data", [b"{}", b'{"turn":0,"agent_id":"a"}', b'{"turn":"1","agent_id":"a"}', b"7"])
def test_body_that_violates_its_schema_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent, match=r"turn\.saved"):
        open_event(replace(envelope(), data=Raw(data)))


def test_unknown_field_is_ignored() -> None:
    newer = replace(envelope(), data=Raw(b'{"turn":1,"agent_id":"host","mood":"cheerful"}'))

    assert open_event(newer) == TurnSaved(turn=1, agent_id="host")
