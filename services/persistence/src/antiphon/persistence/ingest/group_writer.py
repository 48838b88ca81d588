"""Commit the batches of all partitions: waiting batches share one round trip and one fsync."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from opentelemetry.trace import SpanKind

from antiphon.chassis.database import Database
from antiphon.chassis.tracing import messaging
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.errors import Fenced, Poisoned, classify
from antiphon.persistence.ingest.validate import DeadLetter, ValidEvent
from antiphon.persistence.sql import storable
from antiphon.persistence.traced_commits import TracedCommits

log = structlog.get_logger(__name__)

MAX_IN_FLIGHT = 2  # transactions: one is in Postgres while the next is prepared
MAX_GROUP_BYTES = 8 * 2**20  # of payloads in one statement; Postgres refuses an argument of 1 GiB

INGEST_BATCH = "select partition, position, sequence from ingest_batch($1, $2, $3, $4)"

Sequences = dict[int, int]  # position -> the sequence that the commit gave to a new event


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """A batch of one partition that waits for its commit, with its fence: epoch and expected checkpoint.

    `last_event_id` identifies the message at `reached`.
    """

    partition: int
    epoch: int
    expected: int
    reached: int
    events: Sequence[ValidEvent]
    dead_letters: Sequence[DeadLetter]
    last_event_id: str

    def bytes(self) -> int:
        """Return the size of all payloads."""
        return sum(len(event.incoming.payload) for event in self.events) + sum(
            len(letter.incoming.payload) for letter in self.dead_letters
        )


_Waiting = tuple[PendingCommit, asyncio.Future[Sequences]]


class GroupWriter:
    """The writer of the event log for all partitions of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        attributes = messaging(SESSIONS.name, "process", "process")
        self._traced = TracedCommits(f"process {SESSIONS.name}", SpanKind.CONSUMER, attributes)

    async def commit(self, pending: PendingCommit) -> Sequences:
        """Commit a batch and return the sequence of each new event by its position.

        Raises Fenced, Poisoned, and any of POSTGRES_ERRORS.
        """
        future: asyncio.Future[Sequences] = asyncio.get_running_loop().create_future()
        self._waiting.append((pending, future))
        if self._in_flight < MAX_IN_FLIGHT:
            self._in_flight += 1
            task = asyncio.create_task(self._flush(), name="ingest commit")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _flush(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._waiting:
                group = self._take_group()
                try:
                    await self._commit_group(group)
                except Exception as error:  # it is ours: nobody may wait without end
                    log.exception("ingest.commit_failed")
                    _fail(group, error)
        finally:
            # No await since the last check of `_waiting`: a commit after this starts a new task.
            self._in_flight -= 1
            left = group if self._in_flight else [*group, *self._waiting]
            for _, future in left:  # those without an answer: this task was cancelled
                future.cancel()

    def _take_group(self) -> list[_Waiting]:
        """Remove and return the first waiting batches: at least one, and no more than the limit in bytes."""
        size, count = self._waiting[0][0].bytes(), 1
        for pending, _ in self._waiting[1:]:
            size += pending.bytes()
            if size > MAX_GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        try:
            sequences = await self._write([pending for pending, _ in group])
        except Exception as error:  # noqa: BLE001 - raised to the callers of `commit`
            cause = classify(error)
            if len(group) == 1 or not isinstance(cause, (Fenced, Poisoned)):
                _fail(group, cause)
                return
            for waiting in group:  # one partition caused it: commit each separately
                await self._commit_group([waiting])
        else:
            for pending, future in group:
                if not future.done():
                    future.set_result(sequences[pending.partition])

    async def _write(self, commits: Sequence[PendingCommit]) -> dict[int, Sequences]:
        began = time.time_ns()
        async with self._database.pool.acquire() as connection:
            sent = time.time_ns()
            sequences = await write(connection, commits)
        events = (event.envelope for commit in commits for event in commit.events)
        number = sum(len(commit.events) for commit in commits)
        self._traced.show(events, number, INGEST_BATCH, began=began, sent=sent)
        return sequences


async def write(
    connection: "asyncpg.pool.PoolConnectionProxy", commits: Sequence[PendingCommit]
) -> dict[int, Sequences]:
    """Write batches of several partitions in one statement; return the sequences of each.

    Raises any of asyncpg's errors: see `classify`.
    """
    try:
        rows = await connection.fetch(
            INGEST_BATCH,
            _commit_rows(commits),
            _event_rows(commits),
            _dead_letter_rows(commits),
            [_encodable(commit.last_event_id) for commit in commits],
        )
    except asyncpg.InternalServerError:
        connection.terminate()  # it may cache the ids of types that were dropped and created again
        raise
    sequences: dict[int, Sequences] = {commit.partition: {} for commit in commits}
    for partition, position, sequence in rows:
        sequences[partition][position] = sequence
    return sequences


def _fail(group: list[_Waiting], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)


# Rows of the composite types of migration 0002; asyncpg encodes tuples as such.


def _commit_rows(commits: Sequence[PendingCommit]) -> list[tuple[Any, ...]]:
    """Return rows of `partition_commit`."""
    return [(commit.partition, commit.epoch, commit.expected, commit.reached) for commit in commits]


def _event_rows(commits: Sequence[PendingCommit]) -> list[tuple[Any, ...]]:
    """Return rows of `new_event`."""
    return [
        (
            commit.partition,
            event.incoming.position,
            event.envelope.subject,
            event.envelope.tenant,
            event.envelope.id,
            event.envelope.type,
            event.envelope.version,
            event.envelope.time,
            event.text,
        )
        for commit in commits
        for event in commit.events
    ]


def _dead_letter_rows(commits: Sequence[PendingCommit]) -> list[tuple[Any, ...]]:
    """Return rows of `new_dead_letter`."""
    return [
        (
            commit.partition,
            letter.incoming.position,
            _encodable(letter.incoming.subject),
            letter.incoming.payload,
            json.dumps(dict(letter.incoming.headers or {})),
            _encodable(letter.error),
        )
        for commit in commits
        for letter in commit.dead_letters
    ]


def _encodable(value: str) -> str:
    """Return a text that a text column can hold: without NUL and lone surrogates."""
    return storable(value).encode(errors="replace").decode()
