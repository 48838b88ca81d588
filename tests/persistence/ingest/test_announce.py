"""An announcement carries what one commit added to one session."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.chassis.bus import Bus, Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope, committed
from antiphon.persistence.ingest.announce import MAX_BYTES, announcements
from antiphon.persistence.ingest.validate import ValidEvent, validate

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest

LARGEST = 1 << 20

_decoder = msgspec.json.Decoder(list[Envelope])


def event_of(envelope: Envelope, position: int, partition: int, tail: bytes = b"") -> ValidEvent:
    out = outgoing(envelope)
    incoming = Incoming(out.subject, out.payload + tail, position, position, None, datetime.now(UTC))
    event = validate(incoming, partition)
    assert isinstance(event, ValidEvent)
    return event


def test_each_session_gets_one_message_with_its_new_events_in_order(new_session: "NewSession") -> None:
    first, second = new_session("first"), new_session("second")
    partitions = {session.session_id: session.partition for session in (first, second)}
    envelopes = [first.requested(), second.requested(), first.turn(1), first.turn(2)]
    events = [
        event_of(envelope, 10 + n, partitions[envelope.subject]) for n, envelope in enumerate(envelopes)
    ]

    messages = dict(announcements(events, {10: 5, 11: 1, 13: 6}, LARGEST))  # the third was in the log already

    subjects = {
        each.session_id: f"committed.{each.partition}.default.{each.session_id}" for each in (first, second)
    }
    assert set(messages) == set(subjects.values())
    assert _decoder.decode(messages[subjects[first.session_id]]) == [
        committed(envelopes[0], 5, 10),
        committed(envelopes[3], 6, 13),
    ]


def test_a_commit_without_new_events_is_not_announced(new_session: "NewSession") -> None:
    session = new_session("quiet")
    assert announcements([event_of(session.requested(), 1, session.partition)], {}, LARGEST) == []


def test_white_space_after_the_envelope_is_dropped(new_session: "NewSession") -> None:
    session = new_session("spaces")
    envelope = session.requested()
    [(_, payload)] = announcements([event_of(envelope, 3, session.partition, tail=b" \r\n")], {3: 1}, LARGEST)

    assert _decoder.decode(payload) == [committed(envelope, 1, 3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from([10, 60_000, 300_000, 600_000]), min_size=1, max_size=12))
def test_a_large_commit_is_split_into_messages_that_nats_accepts(
    sizes: list[int], new_session: "NewSession"
) -> None:
    session = new_session("large")
    envelopes = [session.turn(n, "x" * size) for n, size in enumerate(sizes, 1)]
    events = [event_of(envelope, n, session.partition) for n, envelope in enumerate(envelopes, 1)]

    sequences = {n: n for n in range(1, len(envelopes) + 1)}
    payloads = [payload for _, payload in announcements(events, sequences, LARGEST)]

    parts = [_decoder.decode(payload) for payload in payloads]
    assert [envelope for part in parts for envelope in part] == [
        committed(envelope, n, n) for n, envelope in enumerate(envelopes, 1)
    ]
    assert all(
        len(part) == 1 or len(payload) < MAX_BYTES + 1000
        for part, payload in zip(parts, payloads, strict=True)
    )


def test_an_envelope_that_fits_only_without_its_numbers_is_announced_without_a_body(
    new_session: "NewSession",
) -> None:
    """Followers of the session read the log; the other events are announced as usual."""
    session = new_session("largest")
    before, large, after = session.turn(1), session.turn(2, "x" * 10_000), session.turn(3)
    events = [
        event_of(envelope, n, session.partition) for n, envelope in enumerate((before, large, after), 1)
    ]

    payloads = announcements(events, {1: 1, 2: 2, 3: 3}, largest=len(events[1].incoming.payload) + 10)

    assert [_decoder.decode(payload) for _, payload in payloads] == [
        [committed(before, 1, 1)],
        [],
        [committed(after, 3, 3)],
    ]


async def test_the_largest_event_is_committed_and_followed(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With sequence and position it is larger than a message may be, if its publisher sent no headers."""
    session = new_session("largest")
    first, last = session.requested(), session.turn(2)
    text = "x" * (bus.max_payload - len(outgoing(session.turn(1, "")).payload) - 4)
    large = session.turn(1, text)
    followed: list[Envelope] = []
    reported: list[tuple[str, str]] = []
    monkeypatch.setattr(ingest.readiness, "unhealthy", lambda *reason: reported.append(reason))

    async def follow() -> None:
        async for envelope in Log(database, bus).follow_session("default", session.session_id):
            followed.append(envelope)
            if len(followed) == 3:
                return

    following = asyncio.create_task(follow())
    ingest.start(session.partition)
    await publish([first])
    await event_log.until(1)
    out = outgoing(large)
    await bus.connection.request(out.subject, out.payload)
    await publish([last])
    await asyncio.wait_for(following, 60)

    assert [envelope.id for envelope in followed] == [first.id, large.id, last.id]
    assert reported == []
