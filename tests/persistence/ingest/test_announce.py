"""An announcement says what one commit added to one session."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.contracts.envelope import Envelope, committed
from antiphon.persistence.ingest.announce import LIMIT_BYTES, announcements
from antiphon.persistence.ingest.judge import Entry, judge

if TYPE_CHECKING:
    from tests.persistence.conftest import Tell

_decoder = msgspec.json.Decoder(list[Envelope])


def entry_of(envelope: Envelope, position: int, partition: int, tail: bytes = b"") -> Entry:
    out = outgoing(envelope)
    incoming = Incoming(out.subject, out.payload + tail, position, position, None, datetime.now(UTC))
    judged = judge(incoming, partition)
    assert isinstance(judged, Entry)
    return judged


def test_one_message_for_each_session_with_its_new_events_in_order(story: "Tell") -> None:
    first, second = story("first"), story("second")
    told = [first.requested(), second.requested(), first.turn(1), first.turn(2)]
    entries = [
        entry_of(
            envelope, 10 + n, first.partition if envelope.subject == first.session_id else second.partition
        )
        for n, envelope in enumerate(told)
    ]

    said = dict(announcements(entries, [(1, 5), (2, 1), (4, 6)]))  # the third was there already

    assert set(said) == {f"committed.{each.partition}.default.{each.session_id}" for each in (first, second)}
    assert _decoder.decode(said[f"committed.{first.partition}.default.{first.session_id}"]) == [
        committed(told[0], 5, 10),
        committed(told[3], 6, 13),
    ]


def test_nothing_new_is_not_announced(story: "Tell") -> None:
    told = story("quiet")
    assert announcements([entry_of(told.requested(), 1, told.partition)], []) == []


def test_white_space_after_the_envelope_does_no_harm(story: "Tell") -> None:
    told = story("spaces")
    envelope = told.requested()
    [(_, payload)] = announcements([entry_of(envelope, 3, told.partition, tail=b" \r\n")], [(1, 1)])

    assert _decoder.decode(payload) == [committed(envelope, 1, 3)]


@given(sizes=st.lists(st.sampled_from([10, 60_000, 300_000, 600_000]), min_size=1, max_size=12))
def test_a_long_commit_is_said_in_parts_that_nats_carries(sizes: list[int]) -> None:
    from antiphon.contracts.envelope import seal
    from antiphon.contracts.events.turn import TurnSaved
    from antiphon.contracts.ids import session_id_for_key
    from antiphon.contracts.subjects import partition_of

    session_id = session_id_for_key("default", "long")
    told = [
        seal(
            TurnSaved(turn=n, agent_id="host", user_text="x" * size),
            id=f"{session_id}:{n}",
            session_id=session_id,
            tenant="default",
            producer="test",
            producerseq=n,
            time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for n, size in enumerate(sizes, 1)
    ]
    entries = [entry_of(envelope, n, partition_of(session_id)) for n, envelope in enumerate(told, 1)]

    parts = [payload for _, payload in announcements(entries, [(n, n) for n in range(1, len(told) + 1)])]

    heard = [_decoder.decode(part) for part in parts]
    assert [envelope for part in heard for envelope in part] == [
        committed(envelope, n, n) for n, envelope in enumerate(told, 1)
    ]
    assert all(
        len(part) == 1 or len(payload) < LIMIT_BYTES + 1000
        for part, payload in zip(heard, parts, strict=True)
    )
