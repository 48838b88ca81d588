"""What can never be valid is set aside; what is only unknown is kept."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.contracts.envelope import Envelope, encode
from antiphon.persistence.ingest.judge import DeadLetter, Entry, Judged, judge

if TYPE_CHECKING:
    from tests.persistence.conftest import Tell


def arrived(subject: str, payload: bytes, position: int = 7) -> Incoming:
    return Incoming(subject, payload, position, 1, None, datetime.now(UTC))


def judged(envelope: Envelope, partition: int, **changed: object) -> Judged:
    """Judge an envelope after some of its attributes were changed."""
    out = outgoing(envelope)
    attributes = json.loads(out.payload) | changed
    return judge(arrived(out.subject, json.dumps(attributes).encode()), partition)


def test_an_event_is_kept_exactly_as_published(story: "Tell") -> None:
    told = story("kept")
    out = outgoing(told.requested())
    spaced = out.payload.replace(b'"specversion":', b'"specversion" :  ')

    entry = judge(arrived(out.subject, spaced), told.partition)

    assert isinstance(entry, Entry)
    assert entry.text == spaced.decode()


def test_an_event_of_a_type_that_nobody_knows_yet_is_kept(story: "Tell") -> None:
    told = story("unknown")
    assert isinstance(judged(told.turn(1), told.partition, type="turn.praised"), Entry)


def test_an_event_of_a_newer_version_is_kept(story: "Tell") -> None:
    told = story("newer")
    newer = "https://antiphon.dev/schemas/turn.saved/2"
    assert isinstance(judged(told.turn(1), told.partition, dataschema=newer, data={"new": 1}), Entry)


@pytest.mark.parametrize(
    "payload", [b"", b"not json", b"[]", b"{}", b'{"specversion":"1.0"}', b"\xff\xfe", b'"\xc3"']
)
def test_what_is_no_envelope_is_a_dead_letter(payload: bytes, story: "Tell") -> None:
    told = story("malformed")
    subject = outgoing(told.requested()).subject

    letter = judge(arrived(subject, payload), told.partition)

    assert isinstance(letter, DeadLetter)
    assert letter.incoming.payload == payload
    assert letter.error


def test_invalid_utf8_within_the_body_is_a_dead_letter(story: "Tell") -> None:
    told = story("utf8")
    out = outgoing(told.turn(1, text="MARK"))

    letter = judge(arrived(out.subject, out.payload.replace(b"MARK", b"\xff")), told.partition)

    assert isinstance(letter, DeadLetter)


def test_a_body_that_breaks_its_schema_is_a_dead_letter(story: "Tell") -> None:
    told = story("body")
    letter = judged(told.turn(1), told.partition, data={"turn": "first"})

    assert isinstance(letter, DeadLetter)
    assert "turn.saved" in letter.error


def test_an_event_that_claims_its_sequence_is_a_dead_letter(story: "Tell") -> None:
    told = story("claims")
    assert isinstance(judged(told.turn(1), told.partition, sequence=1), DeadLetter)
    assert isinstance(judged(told.turn(1), told.partition, position=1), DeadLetter)


def test_a_subject_that_contradicts_its_envelope_is_a_dead_letter(story: "Tell") -> None:
    told, other = story("mine"), story("yours")
    payload = encode(told.turn(1))
    partition, session = told.partition, told.session_id

    for subject in (
        f"sessions.{partition}.acme.{session}.turn",  # tenant
        f"sessions.{partition}.default.{other.session_id}.turn",  # session
        f"sessions.{partition}.default.{session}.tool",  # family
        f"sessions.{(partition + 1) % 16}.default.{session}.turn",  # partition
        f"sessions.{partition}.default.{session}",
        f"sessions.{partition}.default.{session}.turn.more",
    ):
        assert isinstance(judge(arrived(subject, payload), partition), DeadLetter), subject


def test_a_message_of_a_partition_that_its_session_does_not_belong_to_is_a_dead_letter(story: "Tell") -> None:
    told = story("moved")
    wrong = (told.partition + 1) % 16
    subject = f"sessions.{wrong}.default.{told.session_id}.turn"

    assert isinstance(judge(arrived(subject, encode(told.turn(1))), wrong), DeadLetter)


def test_an_entry_holds_the_envelope_with_its_body_raw(story: "Tell") -> None:
    told = story("raw")
    envelope = told.turn(1)
    entry = judge(arrived(outgoing(envelope).subject, encode(envelope)), told.partition)

    assert isinstance(entry, Entry)
    assert msgspec.json.decode(entry.envelope.data)["turn"] == 1


@pytest.mark.parametrize("levels", [120, 5_000, 300_000])
@pytest.mark.parametrize("event_type", ["turn.saved", "turn.praised"])
def test_what_is_nested_too_deep_for_a_reader_is_a_dead_letter(
    levels: int, event_type: str, story: "Tell"
) -> None:
    told = story("deep")
    out = outgoing(told.turn(1, text="MARK"))
    deep = out.payload.replace(b'"MARK"', b"[" * levels + b"]" * levels)
    letter = judge(arrived(out.subject, deep.replace(b"turn.saved", event_type.encode())), told.partition)

    assert isinstance(letter, DeadLetter)
    assert "nested deeper" in letter.error


def test_brackets_within_words_are_not_nesting(story: "Tell") -> None:
    told = story("brackets")
    envelope = told.turn(1, text='[{"\\' * 500)

    assert isinstance(judge(arrived(outgoing(envelope).subject, encode(envelope)), told.partition), Entry)


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z"]
)
def test_a_time_that_never_was_ends_nobody(time: str, story: "Tell") -> None:
    told = story("time")
    assert isinstance(judged(told.turn(1), told.partition, time=time), (Entry, DeadLetter))
