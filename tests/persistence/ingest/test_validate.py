"""Messages that can never be valid become dead letters; unknown types and versions are valid."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.contracts import upcasters
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.ingest.validate import DeadLetter, Validated, ValidEvent, validate

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession


def arrived(subject: str, payload: bytes, position: int = 7) -> Incoming:
    return Incoming(subject, payload, position, 1, None, datetime.now(UTC))


def validate_changed(envelope: Envelope, partition: int, **changed: object) -> Validated:
    """Validate an envelope after some of its attributes were changed."""
    out = outgoing(envelope)
    attributes = json.loads(out.payload) | changed
    return validate(arrived(out.subject, json.dumps(attributes).encode()), partition)


def test_an_event_has_the_exact_text_as_published(new_session: "NewSession") -> None:
    session = new_session("kept")
    out = outgoing(session.requested())
    spaced = out.payload.replace(b'"specversion":', b'"specversion" :  ')

    event = validate(arrived(out.subject, spaced), session.partition)

    assert isinstance(event, ValidEvent)
    assert event.text == spaced.decode()


def test_an_unknown_event_type_is_valid(new_session: "NewSession") -> None:
    session = new_session("unknown")
    assert isinstance(validate_changed(session.turn(1), session.partition, type="turn.praised"), ValidEvent)


def test_a_newer_version_is_valid(new_session: "NewSession") -> None:
    session = new_session("newer")
    newer = "https://antiphon.dev/schemas/turn.saved/2"
    assert isinstance(
        validate_changed(session.turn(1), session.partition, dataschema=newer, data={"new": 1}), ValidEvent
    )


def test_an_older_version_is_valid_if_it_can_be_upcast(
    new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("older")
    stored = session.turn(1)
    monkeypatch.setattr(TurnSaved, "VERSION", 2)
    monkeypatch.setattr(
        upcasters, "UPCASTERS", {("turn.saved", 1): lambda body: {**body, "turn": body["turn"]}}
    )

    assert isinstance(validate_changed(stored, session.partition), ValidEvent)
    assert isinstance(validate_changed(stored, session.partition, data={"agent_id": "host"}), DeadLetter)


@pytest.mark.parametrize("schema", ["turn.saved", "https://antiphon.dev/turn.saved/one", "x/0", "x/99999"])
@pytest.mark.parametrize("event_type", ["turn.saved", "turn.praised"])
def test_a_dataschema_without_a_readable_version_is_a_dead_letter(
    schema: str, event_type: str, new_session: "NewSession"
) -> None:
    session = new_session("no version")
    letter = validate_changed(session.turn(1), session.partition, type=event_type, dataschema=schema)

    assert isinstance(letter, DeadLetter)
    assert "dataschema" in letter.error


@pytest.mark.parametrize(
    "payload", [b"", b"not json", b"[]", b"{}", b'{"specversion":"1.0"}', b"\xff\xfe", b'"\xc3"']
)
def test_a_malformed_envelope_is_a_dead_letter(payload: bytes, new_session: "NewSession") -> None:
    session = new_session("malformed")
    subject = outgoing(session.requested()).subject

    letter = validate(arrived(subject, payload), session.partition)

    assert isinstance(letter, DeadLetter)
    assert letter.incoming.payload == payload
    assert letter.error


def test_invalid_utf8_within_the_body_is_a_dead_letter(new_session: "NewSession") -> None:
    session = new_session("utf8")
    out = outgoing(session.turn(1, text="MARK"))

    letter = validate(arrived(out.subject, out.payload.replace(b"MARK", b"\xff")), session.partition)

    assert isinstance(letter, DeadLetter)


def test_a_body_that_violates_its_schema_is_a_dead_letter(new_session: "NewSession") -> None:
    session = new_session("body")
    letter = validate_changed(session.turn(1), session.partition, data={"turn": "first"})

    assert isinstance(letter, DeadLetter)
    assert "turn.saved" in letter.error


def test_an_event_with_a_sequence_or_position_is_a_dead_letter(new_session: "NewSession") -> None:
    session = new_session("claims")
    assert isinstance(validate_changed(session.turn(1), session.partition, sequence=1), DeadLetter)
    assert isinstance(validate_changed(session.turn(1), session.partition, position=1), DeadLetter)


def test_a_subject_that_contradicts_its_envelope_is_a_dead_letter(new_session: "NewSession") -> None:
    session, other = new_session("mine"), new_session("yours")
    payload = encode(session.turn(1))
    partition, session_id = session.partition, session.session_id

    for subject in (
        f"sessions.{partition}.acme.{session_id}.turn",  # tenant
        f"sessions.{partition}.default.{other.session_id}.turn",  # session
        f"sessions.{partition}.default.{session_id}.tool",  # family
        f"sessions.{(partition + 1) % 16}.default.{session_id}.turn",  # partition
        f"sessions.{partition}.default.{session}",
        f"sessions.{partition}.default.{session_id}.turn.more",
    ):
        assert isinstance(validate(arrived(subject, payload), partition), DeadLetter), subject


def test_a_message_in_the_wrong_partition_is_a_dead_letter(new_session: "NewSession") -> None:
    session = new_session("moved")
    wrong = (session.partition + 1) % 16
    subject = f"sessions.{wrong}.default.{session.session_id}.turn"

    assert isinstance(validate(arrived(subject, encode(session.turn(1))), wrong), DeadLetter)


def test_a_valid_event_has_its_body_raw(new_session: "NewSession") -> None:
    session = new_session("raw")
    envelope = session.turn(1)
    event = validate(arrived(outgoing(envelope).subject, encode(envelope)), session.partition)

    assert isinstance(event, ValidEvent)
    assert msgspec.json.decode(event.envelope.data)["turn"] == 1


@pytest.mark.parametrize("levels", [120, 5_000, 300_000])
@pytest.mark.parametrize("event_type", ["turn.saved", "turn.praised"])
def test_deep_nesting_is_a_dead_letter(levels: int, event_type: str, new_session: "NewSession") -> None:
    session = new_session("deep")
    out = outgoing(session.turn(1, text="MARK"))
    deep = out.payload.replace(b'"MARK"', b"[" * levels + b"]" * levels)
    letter = validate(
        arrived(out.subject, deep.replace(b"turn.saved", event_type.encode())), session.partition
    )

    assert isinstance(letter, DeadLetter)
    assert "nested deeper" in letter.error


def test_brackets_within_strings_are_not_nesting(new_session: "NewSession") -> None:
    session = new_session("brackets")
    envelope = session.turn(1, text='[{"\\' * 500)

    assert isinstance(
        validate(arrived(outgoing(envelope).subject, encode(envelope)), session.partition), ValidEvent
    )


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z"]
)
def test_an_impossible_time_raises_nothing(time: str, new_session: "NewSession") -> None:
    session = new_session("time")
    assert isinstance(
        validate_changed(session.turn(1), session.partition, time=time), (ValidEvent, DeadLetter)
    )
