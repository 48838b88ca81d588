"""A build reads no rows that cannot exist, and overlaps its writes, without losing one or its error."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.chassis.database import Database
from antiphon.chassis.log import Batch
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.projection import Rows
from antiphon.persistence.projection.batch import Write, write
from antiphon.persistence.projection.cache import Cache, NotLoaded
from antiphon.persistence.projections.sessions import SESSION, SESSIONS
from antiphon.persistence.projections.turns import TURN
from antiphon.persistence.rebuild.write_behind import grouped, write_behind

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession

    from antiphon.chassis.database import Connection


def test_rows_of_an_empty_view_are_not_read(new_session: "NewSession") -> None:
    cache = Cache(max_bytes=10_000, empty=True)
    key = (new_session("new").session_id, "", 1)
    rows = Rows(cache)

    assert rows(TURN, *key)["turn"] == 1
    assert not rows.missing
    assert cache.of(TURN).knows(key)


def test_rows_that_were_too_large_or_too_many_to_keep_are_read(new_session: "NewSession") -> None:
    session = new_session("large")
    key = (session.session_id,)
    cache = Cache(max_bytes=10_000, empty=True)
    rows = Rows(cache)
    call = session.whole_call()
    SESSIONS.fold(SESSIONS.opened(call), rows)
    rows(SESSION, *key)["large"] = True
    rows.keep()

    assert not cache.of(SESSION).knows(key)
    assert cache.of(SESSION).knows(("another",))
    with pytest.raises(NotLoaded):
        Rows(cache)(SESSION, *key)

    Rows(cache)(SESSION, "small")
    cache.of(SESSION).rows["small",] = {}
    cache.trim(call * 100)

    assert not cache.of(SESSION).knows(("small",))
    assert cache.of(SESSION).knows(("another",))


def test_a_cache_that_dropped_too_many_sessions_knows_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.persistence.projection.cache.MAX_DROPPED", 2)
    cached = Cache(empty=True).of(SESSION)
    for number in range(3):
        cached.rows[f"{number}",] = {}
    assert cached.knows(("another",))
    cached.drop_all()

    assert not cached.knows(("another",))


async def test_a_write_runs_behind_and_is_seen_by_the_next_read(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("create table behind (n integer)")
        async with write_behind(connection) as behind:
            for n in range(3):
                await behind.write(
                    partial(write, write=Write("insert into behind select $1 from pg_sleep(0.05)", [n]))
                )
            assert [row["n"] for row in await behind.fetch("select n from behind order by n")] == [0, 1, 2]
            await behind.write(partial(write, write=Write("insert into behind values ($1)", [3])))

        assert await connection.fetchval("select count(*) from behind") == 4


async def test_the_error_of_the_last_write_is_raised(database: Database) -> None:
    async with database.pool.acquire() as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with write_behind(connection) as behind:
                await behind.write(partial(write, write=Write("select 1 / $1::integer", [0])))
        assert await connection.fetchval("select 1") == 1


async def test_a_write_ends_with_its_build(database: Database) -> None:
    async with database.pool.acquire() as connection:
        with pytest.raises(ValueError, match="fold"):
            await asyncio.wait_for(_fail_to_fold(connection), 30)
        assert await connection.fetchval("select 1") == 1


async def _fail_to_fold(connection: "Connection") -> None:
    async with write_behind(connection) as behind:
        await behind.write(partial(write, write=Write("select pg_sleep($1)", [60])))
        await asyncio.sleep(0.05)
        raise ValueError("the fold failed")


@pytest.mark.parametrize(("events", "max_bytes"), [(4, 1 << 20), (1_000, 1)])
async def test_batches_are_joined_up_to_a_number_or_a_size(
    new_session: "NewSession", events: int, max_bytes: int
) -> None:
    session = new_session("joined")
    log = [session.turn(n) for n in range(1, 11)]

    async def batches() -> AsyncIterator[Batch]:
        for start in range(0, 10, 2):
            yield Batch(log[start : start + 2], Cursor({0: start + 2}))
        yield Batch([], Cursor({0: 20}))

    seen: list[Envelope] = []
    groups = [group async for group in grouped(batches(), events, max_bytes)]
    for group in groups:
        seen += group.envelopes

    assert seen == log
    assert groups[-1].cursor == Cursor({0: 20})
    assert len(groups) == (3 if events == 4 else 6)
