"""The catalogue opens what it knows and says clearly what it does not."""

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


def test_no_two_events_share_a_type() -> None:
    assert len(BY_TYPE) == len(EVENTS)


def test_a_type_that_nobody_registered_is_unknown() -> None:
    with pytest.raises(UnknownEventType, match=r"turn\.eaten"):
        open_event(replace(envelope(), type="turn.eaten"))
    with pytest.raises(UnknownEventType, match=r"turn\.eaten"):
        family_of("turn.eaten")


@pytest.mark.parametrize("schema", ["https://antiphon.dev/schemas/turn.saved/2", "turn.saved", "x/-1"])
def test_a_version_that_this_reader_does_not_know_is_unsupported(schema: str) -> None:
    with pytest.raises(UnsupportedEventVersion, match=r"turn\.saved"):
        open_event(replace(envelope(), dataschema=schema))


@pytest.mark.parametrize("data", [b"{}", b'{"turn":0,"agent_id":"a"}', b'{"turn":"1","agent_id":"a"}', b"7"])
def test_a_body_that_breaks_its_schema_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent, match=r"turn\.saved"):
        open_event(replace(envelope(), data=Raw(data)))


def test_a_field_that_this_reader_does_not_know_yet_is_passed_over() -> None:
    newer = replace(envelope(), data=Raw(b'{"turn":1,"agent_id":"host","mood":"cheerful"}'))

    assert open_event(newer) == TurnSaved(turn=1, agent_id="host")
