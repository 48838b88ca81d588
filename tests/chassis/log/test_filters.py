"""Reading and following a part of the log: the filter is applied in SQL, and the cursor passes the rest."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fixtures.ids import SequentialIds

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Batch, Log, partitions
from antiphon.contracts.cursor import Cursor, InvalidCursor
from antiphon.contracts.subjects import PARTITIONS, partition_of


@pytest.fixture
def log(database: Database, bus: Bus) -> Log:
    return Log(database, bus)


def sessions(count: int) -> list[str]:
    ids = SequentialIds()
    return [ids() for _ in range(count)]


async def read_all(log: Log, cursor: Cursor | None = None, until: Cursor | None = None, **chosen: Any) -> Any:
    batches = [batch async for batch in log.read(cursor or Cursor(), until, **chosen)]
    envelopes = [envelope for batch in batches for envelope in batch.envelopes]
    return [(e.subject, e.sequence) for e in envelopes], batches


async def test_a_read_ends_at_the_head_of_its_start(log: Log, writer: Any) -> None:
    for session in sessions(20):
        await writer.commit(session, 3)
    head = await log.head()
    read = log.read(Cursor(), batch=16)
    first = await anext(read)
    for session in sessions(20):
        await writer.commit(session, 2)  # after the call

    rest = [batch async for batch in read]

    found = [e for batch in [first, *rest] for e in batch.envelopes]
    assert len(found) == 60
    assert rest[-1].cursor == head
    assert (await read_all(log, head))[0] == [(s, n) for s, n in (await read_all(log, head))[0] if n > 3]
    assert len((await read_all(log, head))[0]) == 40


async def test_a_read_ends_at_a_cursor(log: Log, writer: Any) -> None:
    session = sessions(1)[0]
    await writer.commit(session, 5)
    until = await log.head()
    await writer.commit(session, 5)

    found, batches = await read_all(log, until=until, batch=2)

    assert found == [(session, n) for n in range(1, 6)]
    assert batches[-1].cursor == until
    assert (await read_all(log, until, until)) == ([], [])


async def test_types_and_tenants_are_selected_and_the_cursor_passes_the_others(
    log: Log, writer: Any, database: Database
) -> None:
    ours, theirs = sessions(40)[:20], sessions(40)[20:]
    for _ in range(2):
        for session in ours:
            await writer.commit(session, 2)
        for session in theirs:
            await writer.commit(session, 2, tenant="other")
    await database.pool.execute("update event_log set type = 'turn.saved' where sequence % 2 = 0")
    head = await log.head()

    cases: list[tuple[dict[str, Any], set[tuple[str, int]]]] = [
        ({"types": ["turn.saved"]}, {(s, n) for s in ours + theirs for n in (2, 4)}),
        ({"tenant": "other"}, {(s, n) for s in theirs for n in (1, 2, 3, 4)}),
        ({"tenant": "other", "types": {"turn.saved", "x"}}, {(s, n) for s in theirs for n in (2, 4)}),
        ({"types": []}, set()),
        (
            {"partitions": {3, 7}},
            {(s, n) for s in ours + theirs for n in (1, 2, 3, 4) if partition_of(s) in (3, 7)},
        ),
    ]
    for chosen, expected in cases:
        found, batches = await read_all(log, batch=32, **chosen)
        assert sorted(found) == sorted(expected)
        wanted = chosen.get("partitions", range(PARTITIONS))
        assert all(batches[-1].cursor.after(p) == head.after(p) for p in wanted)


async def test_a_long_log_without_matches_is_passed_in_steps(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SCAN", 40)
    session, last = sessions(2)
    await writer.commit(session, 100)
    [wanted] = await writer.commit(last, 1, tenant="other")

    found, batches = await read_all(log, types=["turn.saved"], batch=16)

    assert found == []
    assert [batch.cursor.after(partition_of(session)) for batch in batches] == [20, 60, 100]
    async with aclosing(log.follow(Cursor(), tenant="other", batch=16)) as following, asyncio.timeout(60):
        assert (await anext(following)).envelopes[0].position == wanted.position


async def test_an_empty_batch_of_a_follower_means_that_there_is_no_more(
    log: Log, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "SCAN", 16)
    session = sessions(1)[0]
    await writer.commit(session, 60)
    head = await log.head()

    async with (
        aclosing(log.follow(Cursor(), types=["turn.saved"], batch=16)) as following,
        asyncio.timeout(60),
    ):
        first: Batch = await anext(following)

    assert first == ([], head)


async def test_a_batch_smaller_than_the_number_of_partitions(log: Log, writer: Any) -> None:
    ids = sessions(40)
    for session in ids:
        await writer.commit(session, 2)

    found, batches = await read_all(log, batch=3)

    assert sorted(found) == sorted((s, n) for s in ids for n in (1, 2))
    assert max(len(batch.envelopes) for batch in batches) == 3


async def test_the_cursor_of_a_time(log: Log, writer: Any, database: Database) -> None:
    ids = sessions(30)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for session in ids * 3:
        await writer.commit(session)
    await database.pool.execute(
        "update event_log set occurred_at = $1::timestamptz + position * interval '1 second'", start
    )
    await database.pool.execute(  # those of before have no time of commit
        "update event_log set committed_at = occurred_at, occurred_at = now() where position > 40"
    )
    for second in (-5, 1, 2, 47, 90, 91, 1000):
        cursor = await log.at(start + timedelta(seconds=second))
        found = [e.position async for batch in log.read(cursor) for e in batch.envelopes]
        assert set(found) == set(range(max(1, second), 91))


async def test_a_cursor_after_the_head_is_refused(log: Log, writer: Any) -> None:
    session = sessions(1)[0]
    await writer.commit(session, 5)
    head = await log.head()

    await log.check(head)
    await log.check(Cursor())
    with pytest.raises(
        InvalidCursor, match=f"position 6 of partition {partition_of(session)}, and the log ends at 5"
    ):
        await log.check(head.moved([(partition_of(session), 6)]))


async def test_a_cursor_at_the_end_stays_valid_when_the_newest_session_is_erased(
    log: Log, writer: Any, database: Database
) -> None:
    session = sessions(1)[0]
    await writer.commit(session, 5)
    await database.pool.execute(
        "insert into checkpoints (name, position, epoch) values ($1, 5, 1)", f"ingest:{partition_of(session)}"
    )
    head = await log.head()

    await database.pool.execute("select erase_session($1)", session)

    await log.check(head)
    assert await log.head() == head


@pytest.mark.parametrize("chosen", [{"partitions": []}, {"partitions": [16]}])
async def test_partitions_that_do_not_exist_are_refused(log: Log, chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="partition"):
        log.follow(Cursor(), **chosen)
