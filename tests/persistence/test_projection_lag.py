"""The function that autoscalers read: how many events a view has not folded, for who reads no table."""

import re
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import asyncpg
import pytest

from antiphon.persistence.sql import read_sql

FUNCTION = read_sql("antiphon.persistence.migrations", "versions/0009_projection_lag.sql")
LIMIT = 10_000  # of a partition
INSERT = """
insert into event_log
       (session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope)
select 'ses_' || $1::smallint, n, $1::smallint, $2::bigint + n, 'default', 'e' || $1::smallint || '-' || n,
       'turn.saved', 1, now(), '{}'
  from generate_series(1, $3::integer) as n
"""


class Log:
    """A log whose events have no content, and views at chosen positions."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def append(self, partition: int, events: int, after: int = 0) -> None:
        await self.connection.execute(INSERT, partition, after, events)

    async def view(self, name: str, **checkpoints: int) -> None:
        await self.connection.execute("insert into projections values ($1, 1, '{}')", name)
        for partition, position in checkpoints.items():
            await self.connection.execute(
                "insert into projection_checkpoints (projection, partition, position) values ($1, $2, $3)",
                name,
                int(partition.removeprefix("p")),
                position,
            )

    async def lag(self, views: Sequence[str] | None = None) -> int:
        return int(await self.connection.fetchval("select projection_lag($1)", views))


@pytest.fixture
async def log(postgres_dsn: str) -> AsyncIterator[Log]:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("delete from projections")  # a test names its own
    yield Log(connection)
    await connection.close()


async def test_without_views_nothing_is_behind(log: Log) -> None:
    await log.append(3, 5)

    assert await log.lag() == 0


async def test_the_view_that_is_furthest_behind_counts_in_each_partition(log: Log) -> None:
    await log.append(3, 10)
    await log.append(4, 20)
    await log.view("turns", p3=10, p4=5)
    await log.view("daily", p3=4, p4=20)

    assert await log.lag() == (10 - 4) + (20 - 5)
    assert await log.lag(["turns"]) == 15
    assert await log.lag(["daily"]) == 6


async def test_a_view_without_a_checkpoint_has_folded_nothing(log: Log) -> None:
    await log.append(0, 7)
    await log.view("turns")

    assert await log.lag() == 7


async def test_positions_have_gaps_and_events_are_counted(log: Log) -> None:
    await log.append(3, 10, after=1_000_000)
    await log.view("turns", p3=1_000_004)

    assert await log.lag() == 6


async def test_a_stalled_partition_does_not_count(log: Log) -> None:
    await log.append(3, 10)
    await log.append(4, 2)
    await log.view("turns", p3=0, p4=0)
    await log.connection.execute("update projection_checkpoints set stalled = '{}' where partition = 3")

    assert await log.lag() == 2


async def test_the_count_of_a_partition_is_bounded(log: Log) -> None:
    await log.append(3, LIMIT + 5)
    await log.view("turns")

    assert await log.lag() == LIMIT


async def test_it_reads_the_index_of_positions(log: Log) -> None:
    _, body, _ = FUNCTION.split("$$")
    await log.append(3, 100)  # so few that the table alone would be read

    async with log.connection.transaction():
        for setting in re.findall(r"^set (enable_\w+ = off)$", FUNCTION, re.MULTILINE):
            await log.connection.execute(f"set local {setting}")
        plan = await log.connection.fetch(f"explain {body.replace('views', 'null::text[]')}")

    text = "\n".join(row[0] for row in plan)
    assert "event_log_partition_position_key" in text
    assert "Seq Scan on event_log" not in text


async def test_it_may_be_executed_by_who_was_granted_it_and_shows_only_the_number(log: Log) -> None:
    role = f"scaler_{uuid4().hex[:8]}"
    await log.append(3, 4)
    await log.view("turns")
    await log.connection.execute(f"create role {role}")
    try:
        await log.connection.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await log.lag()
        await log.connection.execute("reset role")
        await log.connection.execute(f"grant execute on function projection_lag to {role}")
        await log.connection.execute(f"set role {role}")
        assert await log.lag() == 4
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await log.connection.fetch("select from event_log")
    finally:
        await log.connection.execute("reset role")
        await log.connection.execute(f"drop owned by {role}")
        await log.connection.execute(f"drop role {role}")
