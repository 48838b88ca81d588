"""Whatever a message contains, it becomes an event or a dead letter, and the messages behind it go on."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fixtures.raw_nats import RawPublisher, header_blocks, tokens

from antiphon.chassis.bus import Bus, Incoming, outgoing
from antiphon.chassis.bus.client import Headers
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode
from antiphon.contracts.subjects import partition_filter
from antiphon.persistence.ingest import validate as validation
from antiphon.persistence.ingest.validate import DeadLetter, ValidEvent, validate

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, RunningIngest, SampleSession

PARTITION = 5
ANY_BYTES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = (
    *("specversion", "id", "source", "type", "subject", "time", "dataschema", "data", "tenant", "producer"),
    *("producerseq", "traceparent", "sequence", "position"),
)
# An event with some of its attributes replaced: what a broken producer sends.
changes = st.dictionaries(st.sampled_from(ATTRIBUTES), json_values, max_size=3)
ODD = "\x00 \ud800 \udcff \u2028 \x1b \U0010ffff"


def _damaged(session: "SampleSession", changed: dict[str, Any]) -> bytes:
    attributes = json.loads(outgoing(session.turn(1)).payload) | changed
    return json.dumps(attributes).encode()  # lone surrogates are escaped, as JSON allows


def _incoming(subject: str, payload: bytes, headers: bytes | None = None) -> Incoming:
    return Incoming(subject, payload, 7, 1, Headers(headers) if headers else None, datetime.now(UTC))


@settings(max_examples=200, deadline=None)
@given(subject=tokens, headers=header_blocks, payload=st.binary(max_size=300))
def test_any_bytes_are_a_dead_letter(subject: bytes, headers: bytes | None, payload: bytes) -> None:
    text = (b"sessions.5." + subject).decode("utf-8", "surrogateescape")
    assert isinstance(validate(_incoming(text, payload, headers), PARTITION), DeadLetter)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=changes)
@example(changed={"dataschema": "https://antiphon.dev/schemas/turn.saved/" + "9" * 200})
@example(changed={"time": "0001-01-01T00:00:00+14:00"})
@example(changed={"type": ODD, "id": ODD, "data": {"text": ODD}})
def test_any_json_is_an_event_or_a_dead_letter(changed: dict[str, Any], new_session: "NewSession") -> None:
    session = new_session("damaged")
    subject = outgoing(session.turn(1)).subject
    validated = validate(_incoming(subject, _damaged(session, changed)), session.partition)
    assert isinstance(validated, ValidEvent | DeadLetter)


@pytest.mark.parametrize("event_type", ["turn.saved", "turn.praised"])
def test_a_string_without_an_end_is_refused_quickly(event_type: str, new_session: "NewSession") -> None:
    session = new_session("endless")
    out = outgoing(session.turn(1, text="MARK"))
    head = out.payload.partition(b"MARK")[0].replace(b"turn.saved", event_type.encode())
    payload = head + b"[" * 200 + b'\\"' * 400_000
    started = time.process_time()

    assert isinstance(validate(_incoming(out.subject, payload), session.partition), DeadLetter)

    assert time.process_time() - started < 10  # it was minutes


def test_an_error_of_ours_is_a_dead_letter(
    new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("ours")
    out = outgoing(session.turn(1))

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a mistake " * 1000)

    monkeypatch.setattr(validation, "validated_event", fail)
    letter = validate(_incoming(out.subject, out.payload), session.partition)

    assert isinstance(letter, DeadLetter)
    assert letter.error.startswith("ZeroDivisionError: a mistake")
    assert len(letter.error) <= validation.MAX_ERROR


@pytest.fixture
def raw(nats_server: NatsServer, bus: Bus) -> Iterator[RawPublisher]:
    publisher = RawPublisher(nats_server.port)
    yield publisher
    publisher.close()


POISON: list[tuple[bytes, bytes | None, bytes]] = [
    (b"\xff\xfe", None, b"\x00"),
    (b"\x00", b"x", b"NUL in the subject, one byte of headers"),
    (b"a\x0b\x0c", b"NATS/1.0", b"\xff" * 100),
    (b"\xed\xa0\x80", b"NATS/1.0\r\nA\x00B: \x00\xff\r\n\r\n", b""),
    (
        b"huge",
        b"NATS/1.0\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"\x00" * 900) for n in range(60)) + b"\r\n",
        b"{",
    ),
]


async def test_poison_becomes_dead_letters_and_the_partition_goes_on(
    raw: RawPublisher,
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("poison")
    out = outgoing(session.requested())
    subject = f"sessions.{session.partition}.".encode()
    for token, headers, payload in POISON:
        raw.publish(subject + token, payload, headers)
    odd: list[dict[str, Any]] = [
        {"id": "odd-1", "type": ODD},
        {"id": ODD},
        {"id": "odd-2", "data": {"text": ODD, ODD: 1}, "type": "turn.praised"},
        {"id": "odd-3", "dataschema": "https://antiphon.dev/schemas/turn.saved/" + "9" * 200},
        {"id": "odd-4", "time": "0001-01-01T00:00:00+14:00"},
        {"id": "odd-5", "traceparent": ODD},
    ]
    turn = outgoing(session.turn(1)).subject.encode()
    for changed in odd:
        raw.publish(turn, _damaged(session, changed))
    raw.publish(out.subject.encode(), out.payload, b"x")

    ingest.start(session.partition)
    await _ingested(event_log, session.partition, len(POISON) + len(odd) + 1)

    letters = await event_log.dead_letters()
    assert [letter["payload"] for letter in letters[: len(POISON)]] == [payload for _, _, payload in POISON]
    assert out.payload.decode() in [
        row["envelope"] for row in await event_log.pool.fetch("select envelope from event_log")
    ]
    await ingest.until_ready()


@ANY_BYTES
@given(
    batch=st.lists(st.tuples(tokens, header_blocks, st.binary(max_size=100)), max_size=10),
    damaged=st.lists(changes, max_size=10),
)
async def test_every_message_is_accounted_for(
    batch: list[tuple[bytes, bytes | None, bytes]],
    damaged: list[dict[str, Any]],
    bus: Bus,
    raw: RawPublisher,
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("any bytes")
    if not ingest.tasks:
        ingest.start(session.partition)
    everything = partition_filter(session.partition)
    newest = await bus.last(everything)
    before = 0 if newest is None else newest.position
    turn = outgoing(session.turn(1)).subject.encode()
    for token, headers, payload in batch:
        raw.publish(f"sessions.{session.partition}.".encode() + token, payload, headers)
    for number, changed in enumerate(damaged):
        raw.publish(turn, _damaged(session, {"id": f"{before}-{number}", "type": "turn.praised"} | changed))
    raw.publish(turn, _damaged(session, {"id": f"{before}-last"}))

    published = [incoming async for incoming in bus.read(everything, before)]
    await _ingested(event_log, session.partition, published[-1].position)

    assert len(published) == len(batch) + len(damaged) + 1
    events, letters = await _stored(event_log)
    assert f"{before}-last" in events.values()
    for incoming in published:
        if incoming.position not in letters and incoming.position not in events:  # the id was stored before
            assert decode(incoming.payload).id in events.values()


async def _ingested(event_log: "LogReader", partition: int, position: int) -> None:
    checkpoint = "select position from checkpoints where name = $1"
    async with asyncio.timeout(60):
        while (await event_log.pool.fetchval(checkpoint, f"ingest:{partition}") or 0) < position:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _stored(event_log: "LogReader") -> tuple[dict[int, str], set[int]]:
    """Return the ids of the events in the log by position, and the positions of the dead letters."""
    rows = await event_log.pool.fetch("select position, event_id from event_log")
    return {row["position"]: row["event_id"] for row in rows}, {
        letter["position"] for letter in await event_log.dead_letters()
    }
