"""What fits the log, asked by producers and by ingest."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.contracts.test_envelope import sealed

from antiphon.contracts.envelope import encode
from antiphon.contracts.errors import ContractError, InvalidBody, InvalidEvent
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import event_subject
from antiphon.contracts.validate import MAX_DEPTH, is_nested_deeper, validate_event


def nested(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def message(levels: int) -> tuple[str, bytes]:
    """Return an event whose `metrics` have some levels; the envelope and the body have two more."""
    envelope = sealed(TurnSaved(turn=1, agent_id="host", metrics=nested(levels)))
    return event_subject(envelope.tenant, envelope.subject, "turn"), encode(envelope)


def test_an_event_as_deep_as_the_log_takes_is_valid() -> None:
    subject, payload = message(MAX_DEPTH - 2)

    envelope, text = validate_event(subject, payload)

    assert (envelope.type, text.encode()) == ("turn.saved", payload)


def test_a_deeper_event_is_one_that_a_client_can_cause() -> None:
    with pytest.raises(InvalidBody, match="deeper than 100 levels"):
        validate_event(*message(MAX_DEPTH - 1))


def test_nesting_that_no_decoder_takes_is_one_that_a_client_can_cause() -> None:
    subject, payload = message(1)
    deep = payload.replace(b'"metrics":{}', b'"metrics":' + b"[" * 100_000 + b"]" * 100_000)

    with pytest.raises(InvalidBody, match="deeper than 100 levels"):
        validate_event(subject, deep)


def test_a_body_that_violates_its_schema_is_one_that_a_client_can_cause() -> None:
    subject, payload = message(1)

    with pytest.raises(InvalidBody, match=r"turn\.saved"):
        validate_event(subject, payload.replace(b'"turn":1', b'"turn":"one"'))


@pytest.mark.parametrize(
    "subject", ["sessions.x", "sessions.1.acme.ses_1.turn", "s" * 4096, "sessions.1." + "a" * 300]
)
def test_no_client_can_cause_a_wrong_subject(subject: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        validate_event(subject, message(1)[1])

    assert not isinstance(raised.value, InvalidBody)


@pytest.mark.parametrize("attribute", ["id", "source", "dataschema", "producer", "traceparent"])
def test_no_text_of_the_envelope_has_nul(attribute: str) -> None:
    envelope = structs.replace(sealed(TurnSaved(turn=1, agent_id="host")), **{attribute: "a\0b"})
    subject = event_subject(envelope.tenant, envelope.subject, "turn")

    with pytest.raises(InvalidEvent, match=f"{attribute} contains the character NUL"):
        validate_event(subject, encode(envelope))


def test_the_body_may_have_nul() -> None:
    envelope = sealed(TurnSaved(turn=1, agent_id="host", metrics={"a": "\0"}))

    validate_event(event_subject(envelope.tenant, envelope.subject, "turn"), encode(envelope))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_a_contract_error(payload: bytes) -> None:
    with pytest.raises(ContractError):
        validate_event(message(1)[0], payload)


@given(
    st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
    st.integers(0, 8),
)
def test_depth_is_that_of_the_value(value: object, levels: int) -> None:
    def depth(value: object) -> int:
        if not isinstance(value, dict | list):
            return 0
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inner), default=0)

    text = msgspec.json.encode(value).decode()

    assert is_nested_deeper(text, levels) == (depth(value) > levels)
