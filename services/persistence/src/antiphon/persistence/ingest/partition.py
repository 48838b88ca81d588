"""Ingest of one partition: pull, validate, commit, announce, acknowledge; in order, and each event once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus, BusError, ConsumerLost, Incoming
from antiphon.chassis.database import Database
from antiphon.chassis.retry import FIRST_SECONDS, retrying
from antiphon.chassis.shutdown import ShuttingDown, StopAwareWait, wait_or_stop
from antiphon.contracts.streams import ingest_consumer
from antiphon.persistence import metrics
from antiphon.persistence.errors import (
    POSTGRES_ERRORS,
    CommitTimedOut,
    Fenced,
    Poisoned,
    TooManyDeadLetters,
    is_timeout,
)
from antiphon.persistence.ingest import canary
from antiphon.persistence.ingest.acks import delayed_acks
from antiphon.persistence.ingest.announce import announcements
from antiphon.persistence.ingest.checkpoint import Checkpoint, Checkpoints
from antiphon.persistence.ingest.group_writer import GroupWriter, PendingCommit, Sequences
from antiphon.persistence.ingest.in_a_row import DeadLettersInARow
from antiphon.persistence.ingest.redispatches import NewEvents
from antiphon.persistence.ingest.stream_check import StreamChanged, check_stream, identity_of
from antiphon.persistence.ingest.validate import DeadLetter, Validated, ValidEvent, validate
from antiphon.persistence.readiness import ReadinessCheck

log = structlog.get_logger(__name__)

CAUGHT_UP_SECONDS = 60.0  # between two records of how far the stream was read, and looks for a stall
OPERATOR_POLL_SECONDS = 2.0  # while the partition is stopped
DEAD_LETTERS = "dead letters"

_READ_CHECKPOINT = "select position, epoch from checkpoints where name = $1"
_READ_COMMITTED = """
select position, sequence from event_log
 where partition = $1 and position > $2 and position <= $3
"""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """The limits of ingest."""

    batch: int = 500  # events in one commit
    dead_letters_in_a_row: int = 100  # then the partition stops until the process is restarted


class PartitionIngest:
    """The ingest loop of one partition, with its checkpoint and its epoch."""

    def __init__(
        self,
        partition: int,
        bus: Bus,
        database: Database,
        writer: GroupWriter,
        readiness: ReadinessCheck,
        options: IngestOptions,
    ) -> None:
        self.position = 0  # of the checkpoint
        self._epoch = 0
        self._partition = partition
        self._name = f"partition {partition}"
        self._checkpoint = f"ingest:{partition}"
        self._checkpoints = Checkpoints(database, partition)
        self._bus = bus
        self._consumer = ingest_consumer(partition)
        self._consumer_lost = False
        self._database = database
        self._writer = writer
        self._readiness = readiness
        self._options = options
        self._commit_limit = options.batch  # messages; lower after a commit that timed out
        self._row = DeadLettersInARow(options.dead_letters_in_a_row)  # up to the last commit
        self._postgres_failed = False  # since the stream was checked
        self._waiting = False  # for deliveries
        self._waited_at: int | None = None  # the position at the last look, if there was more to deliver
        self._stalled = False  # the consumer has messages and delivers none
        self._label = str(partition)  # in metrics
        self._new_events = NewEvents(database)
        self.held = False

    async def run(self, stop: asyncio.Event) -> None:
        """Ingest until stopped; the current batch is finished first.

        Raises Fenced.
        """
        self._readiness.starting(self._name)
        self.held = True
        metrics.stopped.set(0, self._label)
        metrics.ingest_lag.set(0, self._label)  # until the first batch
        metrics.backlog.set(0, self._label)
        self._row = DeadLettersInARow(self._options.dead_letters_in_a_row)
        claim = retrying(*POSTGRES_ERRORS, on_retry=self._on_claim_error, stop=stop)
        try:
            while True:
                checkpoint = await claim(self.claim)
                try:
                    await self._consume_without_end(checkpoint, stop)
                except StreamChanged as error:
                    await self._wait_for_operator(str(error), stop)
        except ShuttingDown:
            return
        except TooManyDeadLetters as error:
            # The cause probably persists: leave later messages on the stream.
            self._readiness.unhealthy(self._name, f"is stopped: {error}")
            metrics.stopped.set(1, self._label)
            await stop.wait()
        finally:
            self._readiness.healthy(self._name)
            self.held = False
            for gauge in (metrics.stopped, metrics.ingest_lag):
                gauge.remove(self._label)  # another replica has the partition now

    async def claim(self) -> Checkpoint:
        """Raise the epoch, which fences every earlier writer, and read the checkpoint."""
        checkpoint = await self._checkpoints.claim()
        self.position, self._epoch = checkpoint.position, checkpoint.epoch
        return checkpoint

    async def record_caught_up(self) -> None:
        """Record how far the stream holds no unread message of the partition, if it has read all of them.

        Without it, a partition without events could not tell whether messages that expired were its own.
        """
        position = self.position
        stream = await self._bus.stream_state()
        # In this order: the consumer has delivered at least what the stream held before.
        if stream is not None and await self._bus.delivered_all(self._consumer, position):
            await self._checkpoints.read_through(self._epoch, position, stream.last)

    async def look_for_stall(self) -> None:
        """Turn readiness red if the consumer delivered nothing since the last look, and had messages then.

        Its owner may have paused it, or changed it so that it cannot deliver.
        """
        position = self.position
        pending = await self._bus.undelivered(self._consumer)
        still = self._waiting and position == self.position and pending > 0
        if still and self._waited_at == position:
            self._stalled = True
            name = self._consumer.name
            reason = f"gets no message after position {position}: is consumer {name} paused?"
            self._readiness.unhealthy(self._name, reason)
        self._waited_at = position if still else None

    async def _consume_without_end(self, checkpoint: Checkpoint, stop: asyncio.Event) -> None:
        if checkpoint.stopped is not None:
            raise StreamChanged(checkpoint.stopped)
        while True:
            # A call returns when the bus fails after a commit: the next failure backs off from the start.
            await retrying(BusError, on_retry=self._on_bus_error, stop=stop)(self._consume, stop)

    async def _wait_for_operator(self, reason: str, stop: asyncio.Event) -> None:
        """Store the reason, so that restarts wait too; return when an operator has recreated the stream."""
        retry = retrying(*POSTGRES_ERRORS, on_retry=self._on_claim_error, stop=stop)
        await retry(self._checkpoints.stop, self._epoch, reason)
        self._readiness.unhealthy(self._name, f"is stopped: {reason}")
        metrics.stopped.set(1, self._label)
        while (await retry(self._checkpoints.read, self._epoch)).stopped is not None:
            self._readiness.unhealthy(self._name, f"is stopped: {reason}")
            await wait_or_stop(asyncio.sleep(OPERATOR_POLL_SECONDS), stop)
        metrics.stopped.set(0, self._label)

    async def _check_stream(self, stop: asyncio.Event) -> None:
        retry = retrying(*POSTGRES_ERRORS, on_retry=self._on_claim_error, stop=stop)
        checkpoint = await retry(self._checkpoints.read, self._epoch)
        lost = await retry(self._checkpoints.verified, checkpoint, await check_stream(self._bus, checkpoint))
        if lost:
            log.error("ingest.gap", partition=self._partition, after=checkpoint.read_through, positions=lost)

    async def _consume(self, stop: asyncio.Event) -> None:
        committed = self._waiting = self._stalled = False
        self._waited_at = None
        try:
            await self._check_stream(stop)
            if self._consumer_lost:
                await self._bus.ensure_consumer(self._consumer)  # never the stream: it would lose events
                self._consumer_lost = False
            # Not "skip what is at or before the checkpoint": after a crash the broker delivers new messages
            # before those that were delivered and not acknowledged, and skipping would lose the latter.
            await self._bus.reset_consumer(self._consumer, self.position + 1)
            async with (
                self._bus.pull(self._consumer, batch=self._options.batch) as puller,
                delayed_acks(puller) as acks,
                self._recording_caught_up(),
                StopAwareWait(stop) as wait,
            ):
                self._readiness.healthy(self._name)
                while True:
                    self._waiting = True
                    batch = await wait(puller.next)
                    self._waiting = False
                    await self._ingest(batch, stop)
                    if self._stalled:
                        self._stalled = False
                        self._readiness.healthy(self._name)
                    acks.add(batch)
                    committed = True
                    if self._postgres_failed:
                        # The stream may have dropped messages meanwhile, which no delivery tells.
                        self._postgres_failed = False
                        return
        except BusError as error:
            if not committed:
                raise
            self._on_bus_error(error)
            await wait_or_stop(asyncio.sleep(FIRST_SECONDS), stop)

    @asynccontextmanager
    async def _recording_caught_up(self) -> AsyncIterator[None]:
        async def run() -> None:
            while True:
                await asyncio.sleep(CAUGHT_UP_SECONDS)
                await self.record_caught_up()
                await self.look_for_stall()

        task = BackgroundTask(run, name=f"partition {self._partition}: record what was read")
        try:
            yield
        finally:
            await task.close()

    async def _ingest(self, batch: Sequence[Incoming], stop: asyncio.Event) -> None:
        validated = [validate(incoming, self._partition) for incoming in batch]
        async for events, sequences in self._commit_all(validated, stop):
            for subject, payload in announcements(events, sequences, self._bus.max_payload):
                await self._bus.announce(subject, payload)
            await self._new_events.count(events, sequences)
        if (arrived := batch[-1].published_at) is not None:
            metrics.ingest_lag.set(max(0.0, time.time() - arrived.timestamp()), self._label)

    async def _commit_all(
        self, batch: Sequence[Validated], stop: asyncio.Event
    ) -> AsyncIterator[tuple[list[ValidEvent], Sequences]]:
        """Commit a batch and yield after each commit; it takes more than one if an event is poisoned.

        A poisoned batch is halved until it is a single event, which is then committed as a dead letter. After
        a time-out commits have half the size, and grow again slowly.
        Raises Fenced, ShuttingDown, TooManyDeadLetters.
        """
        rest = list(batch)
        size = len(rest)
        while rest:
            chunk = self._row.until_limit(rest[: min(size, self._commit_limit)])
            try:
                started = time.perf_counter()
                sequences = await self._commit_or_retry(chunk, stop)
                metrics.commit_duration.record(time.perf_counter() - started)
            except CommitTimedOut:
                self._commit_limit = max(1, len(chunk) // 2)
                continue
            except Poisoned as error:
                size = max(1, len(chunk) // 2)
                if len(chunk) == 1:
                    rest[0] = DeadLetter(chunk[0].incoming, str(error), by_client=True, reason="not_storable")
                continue
            yield [event for event in chunk if isinstance(event, ValidEvent)], sequences
            rest = rest[len(chunk) :]
            size *= 2
            self._commit_limit = min(self._options.batch, self._commit_limit + self._commit_limit // 8 + 1)
            await self._check_dead_letters(chunk, stop)

    async def _commit_or_retry(self, chunk: Sequence[Validated], stop: asyncio.Event) -> Sequences:
        uncertain = False  # whether an attempt failed: its commit may have succeeded
        timed_out = False

        def on_retry(error: BaseException, _: int) -> None:
            nonlocal uncertain, timed_out
            uncertain, timed_out = True, is_timeout(error)
            self._readiness.unhealthy(self._name, f"cannot commit {len(chunk)} messages: {error!r}")

        async def attempt() -> Sequences:
            settled = await self.settle(chunk) if uncertain else None
            if settled is None and timed_out and len(chunk) > 1:
                raise CommitTimedOut
            return await self.commit(chunk) if settled is None else settled

        try:
            return await retrying(*POSTGRES_ERRORS, on_retry=on_retry, stop=stop)(attempt)
        finally:
            self._postgres_failed = self._postgres_failed or uncertain
            if uncertain:
                self._readiness.healthy(self._name)

    async def commit(self, batch: Sequence[Validated]) -> Sequences:
        """Commit a batch and return the sequence of each new event by its position.

        Raises Fenced, Poisoned, and any of POSTGRES_ERRORS.
        """
        reached = batch[-1].incoming.position
        pending = PendingCommit(
            self._partition,
            self._epoch,
            expected=self.position,
            reached=reached,
            events=[event for event in batch if isinstance(event, ValidEvent)],
            dead_letters=[letter for letter in batch if isinstance(letter, DeadLetter)],
            last_event_id=identity_of(batch[-1]),
        )
        sequences = await self._writer.commit(pending)
        self.position = reached
        return sequences

    async def settle(self, batch: Sequence[Validated]) -> Sequences | None:
        """Return the result of a commit whose outcome is unknown, or None if it failed.

        Raises Fenced, and any of POSTGRES_ERRORS.
        """
        row = await self._database.pool.fetchrow(_READ_CHECKPOINT, self._checkpoint)
        position, epoch = row or (None, None)
        reached = batch[-1].incoming.position
        if epoch != self._epoch or position not in (self.position, reached):
            raise Fenced(f"partition {self._partition} is at position {position}, epoch {epoch}")
        if position == self.position:
            return None
        rows = await self._database.pool.fetch(_READ_COMMITTED, self._partition, self.position, reached)
        self.position = reached
        return {row["position"]: row["sequence"] for row in rows}

    async def _check_dead_letters(self, chunk: Sequence[Validated], stop: asyncio.Event) -> None:
        """Count the dead letters of a committed chunk.

        Raises TooManyDeadLetters if the fault is in a producer of ours, or here, and no client can cause it.
        """
        row = self._row
        self._readiness.noticed(DEAD_LETTERS, row.add(chunk))
        if row.producers >= row.limit:
            raise TooManyDeadLetters(
                f"{row.producers} dead letters in a row; the last: {row.last_of_producers}"
            )
        if row.clients < row.limit:
            return
        retry = retrying(*POSTGRES_ERRORS, on_retry=self._on_claim_error, stop=stop)
        refusal = await retry(canary.refusal, self._database, self._partition, self._epoch, self.position)
        self._readiness.healthy(self._name)
        if refusal is not None:
            raise TooManyDeadLetters(
                f"{row.clients} dead letters in a row, and a known good event is refused too: the fault is "
                f"in persistence or its database ({refusal}); the last: {row.last_of_clients}"
            )
        log.warning("ingest.dead_letters_in_a_row", count=row.clients, last=row.last_of_clients)
        row.clients = 0

    def _on_claim_error(self, error: BaseException, _: int) -> None:
        self._readiness.unhealthy(self._name, f"cannot read its checkpoint: {error!r}")

    def _on_bus_error(self, error: BaseException, _: int = 0) -> None:
        self._consumer_lost = self._consumer_lost or isinstance(error, ConsumerLost)
        self._readiness.unhealthy(self._name, f"cannot pull: {error}")
