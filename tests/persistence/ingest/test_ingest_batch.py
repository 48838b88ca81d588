"""The SQL function: one round trip commits a batch under its fence, numbered, each event once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.errors import Fenced, Poisoned
from antiphon.persistence.ingest.partition import PartitionIngest
from antiphon.persistence.ingest.validate import DeadLetter, Validated, ValidEvent

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, SampleSession
    from tests.persistence.ingest.conftest import Batch, NewPartition, SessionsOf

PARTITION = 3

BatchAt = Callable[[Sequence[Envelope], int], list[Validated]]


@pytest.fixture
def sessions(sessions_of: "SessionsOf") -> list["SampleSession"]:
    return sessions_of(PARTITION)


@pytest.fixture
def batch_at(batch: "Batch") -> BatchAt:
    """Make a batch of envelopes that starts at a position."""
    return lambda envelopes, start: batch(envelopes, PARTITION, start)


@pytest.fixture
async def partition(database: Database, new_partition: "NewPartition") -> PartitionIngest:
    partition = new_partition(PARTITION, database)
    await partition.claim()
    return partition


async def test_each_session_counts_from_one_without_a_gap(
    partition: PartitionIngest,
    event_log: "LogReader",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    first, second, _ = sessions
    events = [first.requested(), second.requested(), first.turn(1), second.turn(1), first.turn(2)]

    sequences = await partition.commit(batch_at(events, 10))

    assert sequences == {10: 1, 11: 1, 12: 2, 13: 2, 14: 3}
    assert await event_log.events(first.session_id) == [
        (1, events[0].id),
        (2, events[2].id),
        (3, events[4].id),
    ]


async def test_the_next_batch_continues_the_sequence(
    partition: PartitionIngest, sessions: list["SampleSession"], batch_at: BatchAt
) -> None:
    session, *_ = sessions
    await partition.commit(batch_at([session.requested(), session.turn(1)], 1))

    assert await partition.commit(batch_at([session.turn(2)], 3)) == {3: 3}


async def test_a_duplicate_event_gets_no_sequence(
    partition: PartitionIngest,
    event_log: "LogReader",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, *_ = sessions
    first, second, third = session.requested(), session.turn(1), session.turn(2)
    await partition.commit(batch_at([first, second], 1))

    assert await partition.commit(batch_at([second, third, first, third], 3)) == {4: 3}
    events = await event_log.events(session.session_id)
    assert [event for _, event in events] == [first.id, second.id, third.id]


async def test_the_log_keeps_the_exact_text_and_every_column(
    partition: PartitionIngest, database: Database, sessions: list["SampleSession"], batch_at: BatchAt
) -> None:
    session, *_ = sessions
    envelope = session.turn(1, text='naïve  "quotes" \x00 and 😀')
    await partition.commit(batch_at([envelope], 41))

    row = await database.pool.fetchrow("select * from event_log")

    assert row is not None
    found = dict(row)
    assert datetime.now(UTC) - found.pop("committed_at") < timedelta(minutes=5)
    assert len(found.pop("hash")) == len(found.pop("chain")) == 32
    assert found == {
        "session_id": session.session_id,
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


async def test_a_writer_with_an_old_epoch_is_fenced(
    partition: PartitionIngest,
    new_partition: "NewPartition",
    database: Database,
    event_log: "LogReader",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, *_ = sessions
    successor = new_partition(PARTITION, database)
    await successor.claim()

    with pytest.raises(Fenced, match=r"partitions \{3\}"):
        await partition.commit(batch_at([session.requested()], 1))
    assert await event_log.count() == 0
    assert await successor.commit(batch_at([session.requested()], 1)) == {1: 1}


async def test_a_writer_with_an_old_checkpoint_is_fenced(
    partition: PartitionIngest,
    event_log: "LogReader",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, *_ = sessions
    batch = batch_at([session.requested()], 1)
    await partition.commit(batch)
    partition.position = 0

    with pytest.raises(Fenced):
        await partition.commit(batch)
    assert await event_log.count() == 1


async def test_dead_letters_are_kept_raw_and_advance_the_checkpoint(
    partition: PartitionIngest, event_log: "LogReader"
) -> None:
    headers = {"Nats-Msg-Id": "x\0y"}
    incoming = Incoming("sessions.3.a\0b", b"\xff\x00", 5, 1, headers, datetime.now(UTC))

    assert await partition.commit([DeadLetter(incoming, "bad \0 thing \ud800")]) == {}

    [letter] = await event_log.dead_letters()
    assert (letter["position"], letter["payload"], partition.position) == (5, b"\xff\x00", 5)
    assert letter["headers"] == '{"Nats-Msg-Id": "x\\u0000y"}'


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "nul \0 byte"},
        {"id": "x" * 9000 + "".join(map(chr, range(200, 9000)))},
        {"dataschema": "https://antiphon.dev/schemas/turn.saved/99999"},
    ],
    ids=["nul", "too long to index", "a version beyond smallint"],
)
async def test_a_value_that_postgres_cannot_store_poisons_the_batch(
    changes: dict[str, str],
    partition: PartitionIngest,
    event_log: "LogReader",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, *_ = sessions
    batch = batch_at([session.requested(), session.turn(1)], 1)
    event = batch[1]
    assert isinstance(event, ValidEvent)
    batch[1] = structs.replace(event, envelope=structs.replace(event.envelope, **changes))

    with pytest.raises(Poisoned):
        await partition.commit(batch)
    assert (await event_log.count(), partition.position) == (0, 0)


async def test_a_session_belongs_to_the_tenant_of_its_first_event(
    partition: PartitionIngest,
    new_session: "NewSession",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, *_ = sessions
    stranger = new_session("x")
    stranger.session_id, stranger.tenant, stranger.sealed = session.session_id, "acme", 50
    await partition.commit(batch_at([session.requested()], 1))

    with pytest.raises(Poisoned, match="not of tenant"):
        await partition.commit(batch_at([stranger.turn(1)], 2))


async def test_a_session_continues_its_sequence_after_its_events_were_erased(
    partition: PartitionIngest,
    database: Database,
    event_log: "LogReader",
    new_session: "NewSession",
    sessions: list["SampleSession"],
    batch_at: BatchAt,
) -> None:
    session, other, _ = sessions
    stranger = new_session("x")
    stranger.session_id, stranger.tenant, stranger.sealed = session.session_id, "acme", 50
    await partition.commit(batch_at([session.requested(), other.requested(), session.turn(1)], 1))

    assert await database.pool.fetchval("select erase_session($1)", session.session_id) == 2
    assert await database.pool.fetchval("select erase_session($1)", session.session_id) == 0
    late = session.turn(2)

    assert await partition.commit(batch_at([late, other.turn(1)], 4)) == {4: 3, 5: 2}
    assert await event_log.events(session.session_id) == [(3, late.id)]
    await database.pool.fetchval("select erase_session($1)", session.session_id)
    with pytest.raises(Poisoned, match="not of tenant"):
        await partition.commit(batch_at([stranger.turn(1)], 6))
    assert await partition.commit(batch_at([session.turn(3)], 6)) == {6: 4}


async def test_the_function_accepts_the_call_of_the_version_before(
    partition: PartitionIngest, database: Database, sessions: list["SampleSession"], batch_at: BatchAt
) -> None:
    """During an upgrade, replicas of both versions commit."""
    session, *_ = sessions
    await partition.commit(batch_at([session.requested()], 1))
    await database.pool.execute(
        "select ingest_batch(array[row($1, epoch, 1, 2)]::partition_commit[], '{}', '{}') "
        "from checkpoints where name = $2",
        PARTITION,
        f"ingest:{PARTITION}",
    )

    row = await database.pool.fetchrow("select position, last_event_id from checkpoints")
    assert row is not None
    assert tuple(row) == (2, None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deliveries=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=60),
)
def test_with_any_redelivery_the_log_is_dense_and_in_order_of_first_arrival(
    deliveries: list[tuple[int, int]],
    cuts: list[int],
    postgres_dsn: str,
    sessions_of: "SessionsOf",
    new_partition: "NewPartition",
    batch_at: BatchAt,
) -> None:
    bodies = [[session.turn(n) for n in range(1, 8)] for session in sessions_of(PARTITION)]
    events = [bodies[session][event] for session, event in deliveries]
    rows = asyncio.run(_deliver(postgres_dsn, partial(new_partition, PARTITION), batch_at, events, cuts))

    assert [event_id for _, _, event_id in rows] == list(dict.fromkeys(event.id for event in events))
    counted: Counter[str] = Counter()
    for session_id, sequence, _ in rows:
        counted[session_id] += 1
        assert sequence == counted[session_id]


async def _deliver(
    dsn: str,
    new_partition: Callable[[Database], PartitionIngest],
    batch_at: BatchAt,
    events: list[Envelope],
    cuts: list[int],
) -> list[tuple[str, int, str]]:
    database = await Database.connect(dsn, min_size=0, max_size=2)
    await database.pool.execute("truncate event_log, checkpoints")
    partition = new_partition(database)
    await partition.claim()
    position = 1
    while events:
        size = cuts[position % len(cuts)]
        await partition.commit(batch_at(events[:size], position))
        position, events = position + len(events[:size]), events[size:]
    rows = await database.pool.fetch("select session_id, sequence, event_id from event_log order by position")
    await database.close()
    return [(row["session_id"], row["sequence"], row["event_id"]) for row in rows]
