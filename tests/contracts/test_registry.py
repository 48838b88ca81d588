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


@pytest.mark.parametrize("schema", ["https://antiphon.dev/schemas/turn.saved/2", "turn.saved", "x/-1"])
def test_other_version_is_unsupported(schema: str) -> None:
    with pytest.raises(UnsupportedEventVersion, match=r"turn\.saved"):
        open_event(replace(envelope(), dataschema=schema))


@pytest.mark.parametrize("data", [b"{}", b'{"turn":0,"agent_id":"a"}', b'{"turn":"1","agent_id":"a"}', b"7"])
def test_body_that_violates_its_schema_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent, match=r"turn\.saved"):
        open_event(replace(envelope(), data=Raw(data)))


def test_unknown_field_is_ignored() -> None:
    newer = replace(envelope(), data=Raw(b'{"turn":1,"agent_id":"host","mood":"cheerful"}'))

    assert open_event(newer) == TurnSaved(turn=1, agent_id="host")
