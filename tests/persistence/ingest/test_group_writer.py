"""Batches of many partitions commit together; one that fails does not affect the others."""

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.errors import Fenced, Poisoned
from antiphon.persistence.ingest.group_writer import GroupWriter
from antiphon.persistence.ingest.partition import PartitionIngest
from antiphon.persistence.ingest.validate import Validated

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, SampleSession
    from tests.persistence.ingest.conftest import Batch, NewPartition


@pytest.fixture
async def writer(database: Database) -> GroupWriter:
    return GroupWriter(database)


class Partition:
    """One partition, and a session in it."""

    def __init__(self, ingest: PartitionIngest, session: "SampleSession", batch: "Batch") -> None:
        self.ingest = ingest
        self.session = session
        self.position = 0
        self._batch = batch

    def batch(self, *envelopes: Envelope) -> list[Validated]:
        """Make a batch that follows the last one."""
        batch = self._batch(envelopes, self.session.partition, self.position + 1)
        self.position += len(batch)
        return batch


@pytest.fixture
async def partitions(
    database: Database,
    writer: GroupWriter,
    new_session: "NewSession",
    new_partition: "NewPartition",
    batch: "Batch",
) -> list[Partition]:
    """Five partitions, claimed."""
    sessions: dict[int, SampleSession] = {}
    for number in range(200):
        session = new_session(f"writer {number}")
        sessions.setdefault(session.partition, session)
    made = [
        Partition(new_partition(number, database, writer), session, batch)
        for number, session in list(sessions.items())[:5]
    ]
    for partition in made:
        await partition.ingest.claim()
    return made


async def test_each_partition_gets_its_own_sequences(
    partitions: list[Partition], event_log: "LogReader"
) -> None:
    batches = [
        partition.batch(*(partition.session.turn(n) for n in range(1, count + 2)))
        for count, partition in enumerate(partitions)
    ]

    sequences = await asyncio.gather(
        *(partition.ingest.commit(batch) for partition, batch in zip(partitions, batches, strict=True))
    )

    assert sequences == [{n: n for n in range(1, count + 2)} for count in range(5)]
    assert await event_log.count() == 1 + 2 + 3 + 4 + 5


async def test_batches_that_wait_share_a_transaction(partitions: list[Partition], database: Database) -> None:
    batches = [partition.batch(partition.session.turn(1)) for partition in partitions]
    await asyncio.gather(*(p.ingest.commit(batch) for p, batch in zip(partitions, batches, strict=True)))

    rows = await database.pool.fetch("select xmin::text from event_log")
    assert len({row["xmin"] for row in rows}) < len(partitions)


async def test_a_group_is_limited_in_bytes(
    partitions: list[Partition], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres refuses a statement whose argument has 1 GiB: one event in each of many partitions could."""
    monkeypatch.setattr("antiphon.persistence.ingest.group_writer.MAX_GROUP_BYTES", 100_000)
    batches = [partition.batch(partition.session.turn(1, "x" * 60_000)) for partition in partitions]
    await asyncio.gather(*(p.ingest.commit(batch) for p, batch in zip(partitions, batches, strict=True)))

    rows = await database.pool.fetch("select xmin::text from event_log")
    assert len({row["xmin"] for row in rows}) == len(partitions)


async def test_a_fenced_or_poisoned_batch_does_not_affect_the_others(
    partitions: list[Partition], database: Database, new_partition: "NewPartition", event_log: "LogReader"
) -> None:
    fenced, poisoned, *good = partitions
    await new_partition(fenced.session.partition, database).claim()
    batches = [partition.batch(partition.session.turn(1)) for partition in partitions]
    batches[1] = [msgspec.structs.replace(batches[1][0], text="{not json")]

    outcomes = await asyncio.gather(
        *(p.ingest.commit(batch) for p, batch in zip(partitions, batches, strict=True)),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [Fenced, Poisoned, dict, dict, dict]
    for partition in good:
        assert len(await event_log.events(partition.session.session_id)) == 1
    assert (fenced.ingest.position, poisoned.ingest.position) == (0, 0)


async def test_a_commit_at_the_end_of_a_flush_is_flushed(
    partitions: list[Partition], event_log: "LogReader", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition that a flush wakes commits again in the same iteration of the event loop."""
    monkeypatch.setattr("antiphon.persistence.ingest.group_writer.MAX_IN_FLIGHT", 1)
    first, *_ = partitions

    async with asyncio.timeout(60):
        for number in range(1, 6):
            await first.ingest.commit(first.batch(first.session.turn(number)))
    assert await event_log.count() == 5


async def test_a_mistake_of_ours_fails_the_group_and_not_the_next(
    partitions: list[Partition], writer: GroupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = partitions

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(writer, "_commit_group", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(first.ingest.commit(first.batch(first.session.requested())), 60)

    monkeypatch.undo()
    assert await asyncio.wait_for(second.ingest.commit(second.batch(second.session.requested())), 60) == {
        1: 1
    }
