"""A commit whose outcome is unknown: the checkpoint shows whether it succeeded."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import committed_filter
from antiphon.persistence.errors import Fenced
from antiphon.persistence.ingest.group_writer import Sequences
from antiphon.persistence.ingest.partition import PartitionIngest
from antiphon.persistence.ingest.validate import Validated

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest
    from tests.persistence.ingest.conftest import Batch, NewPartition, SessionsOf

PARTITION = 3

_announcement = msgspec.json.Decoder(list[Envelope])


async def test_a_lost_answer_to_a_commit_is_settled_and_announced(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to a commit is lost: its result is read from the log, and no event is fenced or doubled."""
    session = new_session("uncertain")
    commit = PartitionIngest.commit
    lost: list[int] = []

    async def lose_the_first_answer(self: PartitionIngest, batch: Sequence[Validated]) -> Sequences:
        position = self.position
        sequences = await commit(self, batch)
        if not lost:
            lost.append(len(sequences))
            self.position = position
            raise OSError("connection lost")
        return sequences

    monkeypatch.setattr(PartitionIngest, "commit", lose_the_first_answer)
    subscription = await ingest.bus.subscribe(committed_filter(session.partition))
    call = session.whole_call()
    await publish(call)
    ingest.start(session.partition)
    await event_log.until(len(call))

    announced: list[Envelope] = []
    async with asyncio.timeout(60):
        async for _, payload in subscription:
            announced += _announcement.decode(payload)
            if len(announced) == len(call):
                break
    await subscription.close()
    assert lost
    assert [(envelope.sequence, envelope.id) for envelope in announced] == [
        (n, e.id) for n, e in enumerate(call, 1)
    ]
    await ingest.until_ready()


@pytest.fixture
async def partition(database: Database, new_partition: "NewPartition") -> PartitionIngest:
    partition = new_partition(PARTITION, database)
    await partition.claim()
    return partition


async def test_a_claim_continues_after_the_last_commit(
    partition: PartitionIngest,
    database: Database,
    new_partition: "NewPartition",
    sessions_of: "SessionsOf",
    batch: "Batch",
) -> None:
    session, *_ = sessions_of(PARTITION)
    await partition.commit(batch([session.requested(), session.turn(1)], PARTITION, 8))

    successor = new_partition(PARTITION, database)
    await successor.claim()

    assert successor.position == 9


async def test_a_commit_whose_answer_was_lost_is_settled(
    partition: PartitionIngest, sessions_of: "SessionsOf", batch: "Batch"
) -> None:
    session, *_ = sessions_of(PARTITION)
    await partition.commit(batch([session.requested()], PARTITION, 1))
    uncertain = batch([session.requested(), session.turn(1), session.turn(2)], PARTITION, 2)
    assert await partition.settle(uncertain) is None  # it failed

    await partition.commit(uncertain)
    partition.position = 1  # as if the answer had been lost

    assert await partition.settle(uncertain) == {2: 2, 3: 3, 4: 4}
    assert partition.position == 4


async def test_settling_detects_a_successor(
    partition: PartitionIngest,
    database: Database,
    new_partition: "NewPartition",
    sessions_of: "SessionsOf",
    batch: "Batch",
) -> None:
    session, *_ = sessions_of(PARTITION)
    await new_partition(PARTITION, database).claim()

    with pytest.raises(Fenced):
        await partition.settle(batch([session.requested()], PARTITION, 1))
