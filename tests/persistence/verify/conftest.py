"""A log that was committed by ingest's SQL, with positions between its events, and its verification."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.ingest.group_writer import PendingCommit, write
from antiphon.persistence.ingest.stream_check import identity_of
from antiphon.persistence.ingest.validate import DeadLetter, Validated, ValidEvent, validate
from antiphon.persistence.verify.difference import LogReport
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession

STEP = 10  # between two positions

Verify = Callable[..., Awaitable[LogReport]]


class Committer:
    """Commits events as ingest does, several partitions in one call."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reached: dict[int, int] = {}  # by partition
        self.position = 0

    async def commit(self, envelopes: Iterable[Envelope]) -> None:
        """Commit events as messages of the stream, which stand STEP positions apart."""
        await self.commit_messages([self.message(envelope) for envelope in envelopes])

    def message(self, envelope: Envelope) -> tuple[int, Validated]:
        """Return the next message of the stream and its partition."""
        out = outgoing(envelope)
        self.position += STEP
        incoming = Incoming(out.subject, out.payload, self.position, 1, None, datetime.now(UTC))
        partition = partition_of(envelope.subject)
        return partition, validate(incoming, partition)

    async def commit_messages(self, messages: list[tuple[int, Validated]]) -> None:
        """Commit messages of any partitions."""
        batches: dict[int, list[Validated]] = {}
        for partition, message in messages:
            batches.setdefault(partition, []).append(message)
        async with self.database.pool.acquire() as connection:
            for partition in batches.keys() - self.reached.keys():
                self.reached[partition] = await connection.fetchval(
                    "insert into checkpoints (name, epoch) values ($1, 1) "
                    "on conflict (name) do update set epoch = 1 returning position",
                    f"ingest:{partition}",
                )
            await write(connection, [self._pending(*batch) for batch in batches.items()])
        for partition, batch in batches.items():
            self.reached[partition] = batch[-1].incoming.position

    def _pending(self, partition: int, batch: list[Validated]) -> PendingCommit:
        return PendingCommit(
            partition,
            1,
            self.reached[partition],
            batch[-1].incoming.position,
            [message for message in batch if isinstance(message, ValidEvent)],
            [message for message in batch if isinstance(message, DeadLetter)],
            identity_of(batch[-1]),
        )


@pytest.fixture
def committer(database: Database) -> Committer:
    return Committer(database)


@pytest.fixture
def new_committer() -> type[Committer]:
    """Commit to another database."""
    return Committer


@pytest.fixture
def verify(database: Database) -> Verify:
    """Verify the log of this test's database."""

    async def run(**options: object) -> LogReport:
        return await verify_log(database, **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def calls(new_session: "NewSession") -> list["SampleSession"]:
    """Three sessions: two of one partition and one of another."""
    sessions = [new_session(f"verified {number}") for number in range(100)]
    first = sessions[0]
    second = next(session for session in sessions[1:] if session.partition == first.partition)
    third = next(session for session in sessions if session.partition != first.partition)
    return [first, second, third]


@pytest.fixture
async def log(committer: Committer, calls: list["SampleSession"]) -> Committer:
    """Six events of each of the three sessions, interleaved, in several commits."""
    for turns in ((1, 2), (3,), (4, 5, 6)):
        await committer.commit(session.turn(number) for number in turns for session in calls)
    return committer
