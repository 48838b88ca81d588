"""One round trip commits a batch: fenced, numbered, each event once."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.ingest.judge import DeadLetter, Entry, Judged, judge
from antiphon.persistence.ingest.store import Store
from antiphon.persistence.ingest.writer import Poisoned, Writer
from antiphon.persistence.keep import Fenced

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, Story, Tell

PARTITION = 3


def stories_of(story: "Tell", partition: int = PARTITION, count: int = 3) -> list["Story"]:
    """Stories of sessions of one partition."""
    found = (story(f"session {n}") for n in range(10_000))
    return [
        told for told, _ in zip((s for s in found if s.partition == partition), range(count), strict=False)
    ]


def batch_of(envelopes: list[Envelope], start: int, partition: int = PARTITION) -> list[Judged]:
    outs = [outgoing(envelope) for envelope in envelopes]
    now = datetime.now(UTC)
    return [
        judge(Incoming(out.subject, out.payload, start + n, n + 1, None, now), partition)
        for n, out in enumerate(outs)
    ]


@pytest.fixture
async def store(database: Database) -> Store:
    store = Store(database, Writer(database), PARTITION)
    await store.claim()
    return store


async def test_each_session_counts_from_one_without_a_gap(
    store: Store, event_log: "LogReader", story: "Tell"
) -> None:
    first, second, _ = stories_of(story)
    told = [first.requested(), second.requested(), first.turn(1), second.turn(1), first.turn(2)]

    numbered = await store.commit(batch_of(told, start=10))

    assert numbered == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]
    assert await event_log.events(first.session_id) == [(1, told[0].id), (2, told[2].id), (3, told[4].id)]


async def test_the_count_goes_on_in_the_next_batch(store: Store, story: "Tell") -> None:
    told, *_ = stories_of(story)
    await store.commit(batch_of([told.requested(), told.turn(1)], start=1))

    assert await store.commit(batch_of([told.turn(2)], start=3)) == [(1, 3)]


async def test_an_event_that_comes_again_gets_no_number(
    store: Store, event_log: "LogReader", story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    first, second, third = told.requested(), told.turn(1), told.turn(2)
    await store.commit(batch_of([first, second], start=1))

    assert await store.commit(batch_of([second, third, first, third], start=3)) == [(2, 3)]
    assert [event for _, event in await event_log.events(told.session_id)] == [first.id, second.id, third.id]


async def test_the_log_keeps_the_exact_text_and_every_column(
    store: Store, database: Database, story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    envelope = told.turn(1, text='naïve  "quotes" \x00 and 😀')
    await store.commit(batch_of([envelope], start=41))

    row = await database.pool.fetchrow("select * from event_log")

    assert row is not None
    assert dict(row) == {
        "session_id": told.session_id,
        "sequence": 1,
        "partition": PARTITION,
        "position": 41,
        "tenant": "default",
        "event_id": envelope.id,
        "type": "turn.saved",
        "version": 1,
        "occurred_at": envelope.time,
        "envelope": outgoing(envelope).payload.decode(),
    }


async def test_a_writer_that_lost_the_partition_is_fenced(
    store: Store, database: Database, event_log: "LogReader", story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    successor = Store(database, Writer(database), PARTITION)
    await successor.claim()

    with pytest.raises(Fenced):
        await store.commit(batch_of([told.requested()], start=1))
    assert await event_log.count() == 0
    assert await successor.commit(batch_of([told.requested()], start=1)) == [(1, 1)]


async def test_a_writer_at_another_position_is_fenced(
    store: Store, event_log: "LogReader", story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    batch = batch_of([told.requested()], start=1)
    await store.commit(batch)
    store.position = 0

    with pytest.raises(Fenced):
        await store.commit(batch)
    assert await event_log.count() == 1


async def test_a_claim_goes_on_where_the_last_commit_ended(
    store: Store, database: Database, story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    await store.commit(batch_of([told.requested(), told.turn(1)], start=8))

    successor = Store(database, Writer(database), PARTITION)
    await successor.claim()

    assert successor.position == 9


async def test_dead_letters_are_kept_raw_and_move_the_checkpoint(
    store: Store, event_log: "LogReader"
) -> None:
    headers = {"Nats-Msg-Id": "x\0y"}
    incoming = Incoming("sessions.3.a\0b", b"\xff\x00", 5, 1, headers, datetime.now(UTC))

    assert await store.commit([DeadLetter(incoming, "bad \0 thing \ud800")]) == []

    [letter] = await event_log.dead_letters()
    assert (letter["position"], letter["payload"], store.position) == (5, b"\xff\x00", 5)
    assert letter["headers"] == '{"Nats-Msg-Id": "x\\u0000y"}'


async def test_what_postgres_cannot_hold_is_poison_and_commits_nothing(
    store: Store, event_log: "LogReader", story: "Tell"
) -> None:
    told, *_ = stories_of(story)
    good, bad = told.requested(), told.turn(1)
    for changed in ("nul \0 byte", "x" * 9000 + "".join(map(chr, range(200, 9000)))):
        poison = Envelope(**{name: getattr(bad, name) for name in bad.__struct_fields__} | {"id": changed})
        batch = batch_of([good, bad], start=1)
        entry = batch[1]
        assert isinstance(entry, Entry)
        batch[1] = Entry(entry.incoming, poison, entry.text)

        with pytest.raises(Poisoned):
            await store.commit(batch)
    assert (await event_log.count(), store.position) == (0, 0)


async def test_a_session_belongs_to_the_tenant_of_its_first_event(store: Store, story: "Tell") -> None:
    told, *_ = stories_of(story)
    stranger = story("x")
    stranger.session_id, stranger.tenant, stranger.told = told.session_id, "acme", 50
    await store.commit(batch_of([told.requested()], start=1))

    with pytest.raises(Poisoned, match="not of tenant"):
        await store.commit(batch_of([stranger.turn(1)], start=2))


async def test_a_commit_whose_answer_was_lost_is_settled(store: Store, story: "Tell") -> None:
    told, *_ = stories_of(story)
    first = batch_of([told.requested()], start=1)
    await store.commit(first)
    batch = batch_of([told.requested(), told.turn(1), told.turn(2)], start=2)
    assert await store.settle(batch) is None  # it never came through

    await store.commit(batch)
    store.position = 1  # as if the answer had never come

    assert await store.settle(batch) == [(1, 2), (2, 3), (3, 4)]
    assert store.position == 4


async def test_settling_notices_a_successor(store: Store, database: Database, story: "Tell") -> None:
    told, *_ = stories_of(story)
    successor = Store(database, Writer(database), PARTITION)
    await successor.claim()

    with pytest.raises(Fenced):
        await store.settle(batch_of([told.requested()], start=1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deliveries=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=60),
)
def test_whatever_comes_again_the_log_is_dense_and_in_order_of_first_arrival(
    deliveries: list[tuple[int, int]], cuts: list[int], postgres_dsn: str, story: "Tell"
) -> None:
    asyncio.run(_deliver(postgres_dsn, stories_of(story), deliveries, cuts))


async def _deliver(
    dsn: str, stories: list["Story"], deliveries: list[tuple[int, int]], cuts: list[int]
) -> None:
    database = await Database.connect(dsn, min_size=0, max_size=2)
    await database.pool.execute("truncate event_log, checkpoints")
    store = Store(database, Writer(database), PARTITION)
    await store.claim()
    bodies = [[told.turn(n) for n in range(1, 8)] for told in stories]
    told = [bodies[session][event] for session, event in deliveries]
    position = 1
    while told:
        size = cuts[position % len(cuts)]
        await store.commit(batch_of(told[:size], start=position))
        position, told = position + len(told[:size]), told[size:]
    rows = await database.pool.fetch("select session_id, sequence, event_id from event_log order by position")
    await database.close()

    first_arrivals = list(dict.fromkeys(bodies[session][event].id for session, event in deliveries))
    assert [row["event_id"] for row in rows] == first_arrivals
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["session_id"]] += 1
        assert row["sequence"] == counted[row["session_id"]]
