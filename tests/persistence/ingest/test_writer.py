"""What many partitions have in hand goes together, and what is wrong with one is no matter to the others."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.ingest.judge import Judged, judge
from antiphon.persistence.ingest.store import Store
from antiphon.persistence.ingest.writer import Poisoned, Writer
from antiphon.persistence.keep import Fenced

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, Story, Tell


@pytest.fixture
async def writer(database: Database) -> Writer:
    return Writer(database)


class Partition:
    """One partition's store, and a story of a session in it."""

    def __init__(self, database: Database, writer: Writer, told: "Story") -> None:
        self.told = told
        self.store = Store(database, writer, told.partition)
        self.position = 0

    def batch(self, *envelopes: Envelope) -> list[Judged]:
        """Deliver envelopes."""
        batch = []
        for out in map(outgoing, envelopes):
            self.position += 1
            incoming = Incoming(out.subject, out.payload, self.position, 1, None, datetime.now(UTC))
            batch.append(judge(incoming, self.told.partition))
        return batch


@pytest.fixture
async def partitions(database: Database, writer: Writer, story: "Tell") -> list[Partition]:
    """Five partitions, claimed."""
    stories: dict[int, Story] = {}
    for number in range(200):
        told = story(f"writer {number}")
        stories.setdefault(told.partition, told)
    made = [Partition(database, writer, told) for told in list(stories.values())[:5]]
    for partition in made:
        await partition.store.claim()
    return made


async def test_each_gets_its_own_numbers(partitions: list[Partition], event_log: "LogReader") -> None:
    batches = [
        partition.batch(*(partition.told.turn(n) for n in range(1, count + 2)))
        for count, partition in enumerate(partitions)
    ]

    numbered = await asyncio.gather(
        *(partition.store.commit(batch) for partition, batch in zip(partitions, batches, strict=True))
    )

    assert numbered == [[(n, n) for n in range(1, count + 2)] for count in range(5)]
    assert await event_log.count() == 1 + 2 + 3 + 4 + 5


async def test_all_that_wait_go_in_one_transaction(partitions: list[Partition], database: Database) -> None:
    batches = [partition.batch(partition.told.turn(1)) for partition in partitions]
    await asyncio.gather(*(p.store.commit(batch) for p, batch in zip(partitions, batches, strict=True)))

    rows = await database.pool.fetch("select xmin::text from event_log")
    assert len({row["xmin"] for row in rows}) < len(partitions)


async def test_one_that_is_fenced_or_poisoned_does_not_keep_the_others_back(
    partitions: list[Partition], database: Database, writer: Writer, event_log: "LogReader"
) -> None:
    fenced, poisoned, *good = partitions
    await Store(database, writer, fenced.told.partition).claim()
    batches = [partition.batch(partition.told.turn(1)) for partition in partitions]
    batches[1] = [msgspec.structs.replace(batches[1][0], text="{not json")]

    outcomes = await asyncio.gather(
        *(p.store.commit(batch) for p, batch in zip(partitions, batches, strict=True)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [Fenced, Poisoned, list, list, list]
    for partition in good:
        assert len(await event_log.events(partition.told.session_id)) == 1
    assert (fenced.store.position, poisoned.store.position) == (0, 0)


async def test_who_commits_again_at_the_end_of_a_flight_is_not_forgotten(
    partitions: list[Partition], event_log: "LogReader", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that a flight's end wakes commits again in the same turn of the loop."""
    monkeypatch.setattr("antiphon.persistence.ingest.writer.FLIGHTS", 1)
    first, *_ = partitions

    async with asyncio.timeout(10):
        for number in range(1, 6):
            await first.store.commit(first.batch(first.told.turn(number)))
    assert await event_log.count() == 5
