"""The loop of a projection: follows the log and updates the view, for the partitions that are held."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import SpanKind

from antiphon.chassis.bus import BusError
from antiphon.chassis.database import TRANSIENT, Database, DatabaseUnavailable
from antiphon.chassis.log import Batch, Log
from antiphon.chassis.personal_data import shown
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, StopAwareWait, wait_or_stop
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.errors import Fenced, is_caused_by_values
from antiphon.persistence.metrics import fold_duration
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.checkpoint import Claim, claim, skips
from antiphon.persistence.projection.declaration import Projection
from antiphon.persistence.projection.failures import Failures
from antiphon.persistence.projection.lag import LagGauge
from antiphon.persistence.projection.standstill import NotLive, Watch
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.traced_commits import TracedCommits

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

BATCH = 500  # events in one transaction, at most
SETTLED_SECONDS = 5.0  # a loop that fails after this long starts its backoff again
NOT_LIVE_SECONDS = 1.0  # between two looks whether the view is built in this version
IDLE_SECONDS = 1.0  # between two advances of a checkpoint past events that the view does not handle


class _Failed(Exception):
    """The loop failed and reported it; it is retried."""


class _Held:
    """A partition that this process has the lease of."""

    def __init__(self) -> None:
        self.claim: Claim | None = None
        self.leaving = False
        self.fenced = asyncio.Event()
        self.left = asyncio.Event()


class ProjectionLoop:
    """The loop of one projection; partitions are added and removed while it runs."""

    def __init__(
        self, projection: Projection, database: Database, event_log: Log, readiness: ReadinessCheck
    ) -> None:
        self._projection = projection
        self._database = database
        self._log = event_log
        self._readiness = readiness
        self.name = f"projection {projection.name}"
        self._held: dict[int, _Held] = {}
        self._changed = asyncio.Event()  # which partitions are held, or may be read
        self._failures = Failures(projection, readiness, self._changed)
        self._watch = Watch(self.name, readiness)
        self._not_live = NotLive(projection, self.name, readiness)
        self._lag = LagGauge(projection.name)
        self._cache = Cache()
        about = {"antiphon.projection": projection.name}
        self._traced = TracedCommits(f"project {projection.name}", SpanKind.INTERNAL, about)
        self._skips: frozenset[tuple[int, int]] = frozenset()
        self._followed: frozenset[int] = frozenset()
        self._advanced_at = 0.0

    async def hold(self, partition: int, stop: asyncio.Event) -> None:
        """Keep one partition of the view up to date until stopped; its last batch is finished then.

        Raises Fenced.
        """
        held = self._held[partition] = _Held()
        self._lag.held(partition)
        self._changed.set()
        try:
            await wait_or_stop(held.fenced.wait(), stop)
        except ShuttingDown:
            if held.claim is not None:
                held.leaving = True
                self._changed.set()
                await held.left.wait()
            return
        finally:
            if self._held.get(partition) is held:
                del self._held[partition]
            self._failures.forget(partition)
            self._lag.left(partition)
        raise Fenced(f"partition {partition} of {self.name} has another writer")

    async def run(self, stop: asyncio.Event) -> None:
        """Update the view until stopped; report and retry every error."""
        self._readiness.starting(self.name)
        try:
            await retrying(_Failed, stop=stop, settled_seconds=SETTLED_SECONDS)(self._run_until_error, stop)
        except ShuttingDown:
            return
        finally:
            for held in self._held.values():
                held.left.set()
            self._readiness.healthy(self.name)

    async def _run_until_error(self, stop: asyncio.Event) -> None:
        try:
            await self._run(stop)
        except ShuttingDown:
            raise
        except Exception as error:
            # Only this view is affected: the log and the other views continue.
            self._readiness.unhealthy(self.name, f"cannot continue: {error!r}")
            if not isinstance(error, (DatabaseUnavailable, BusError, *TRANSIENT)):
                log.exception("projection.failed", projection=self._projection.name)
            self._release()
            for held in self._held.values():
                held.claim = None  # the checkpoints are read again
            raise _Failed from error
        finally:
            self._watch.rest()

    async def _run(self, stop: asyncio.Event) -> None:
        # Commits do not wait for the disk, so a crash of Postgres may lose the last of them. A crash also
        # closes the connection: we use one connection, and read the checkpoints again when it is closed.
        async with self._database.pool.acquire() as connection:
            broken = asyncio.Event()
            connection.add_termination_listener(lambda _: broken.set())
            while not stop.is_set():
                if broken.is_set():
                    raise DatabaseUnavailable("Postgres closed the connection")
                self._changed.clear()
                self._watch.moved()
                self._release()
                positions = await self._claim(connection)
                async with StopAwareWait(stop, broken, self._changed) as wait:
                    try:
                        await self._follow(connection, positions, wait)
                    except ShuttingDown:
                        continue
            self._release()

    def _release(self) -> None:
        for partition, held in list(self._held.items()):
            if held.leaving:
                del self._held[partition]
                held.left.set()

    async def _claim(self, connection: "Connection") -> dict[int, int]:
        """Claim what is held and not yet claimed; return the positions of the partitions that can be read."""
        unclaimed = [partition for partition, held in self._held.items() if held.claim is None]
        if unclaimed:
            self._cache = Cache()  # another process may have written rows of these partitions
            self._skips = await skips(connection, self._projection)
            claims = await claim(connection, self._projection, unclaimed)
            for partition in unclaimed:
                if partition in self._held:
                    self._held[partition].claim = claims.get(partition)
            if len(claims) < len(unclaimed):  # it is being built, or a later version has replaced it
                await self._not_live.look(connection)
                asyncio.get_running_loop().call_later(NOT_LIVE_SECONDS, self._changed.set)
        claimed = {p: held.claim for p, held in self._held.items() if held.claim is not None}
        for partition in await self._failures.resumed(connection, claimed):
            self._fence([partition])
        return {p: c.position for p, c in claimed.items() if self._failures.may_be_read(c)}

    async def _follow(
        self, connection: "Connection", positions: Mapping[int, int], wait: StopAwareWait
    ) -> None:
        if not positions:
            if all(held.claim is not None for held in self._held.values()):
                self._readiness.healthy(self.name)
            self._watch.rest()
            await wait(asyncio.Event().wait)
        self._followed = frozenset(positions)
        follow = self._log.follow(
            Cursor(positions),
            types=self._projection.types,
            partitions=list(positions),
            batch=BATCH,
            on_outage=self._cannot_read,
        )
        async with aclosing(follow) as batches:
            await self._apply_batches(connection, batches, wait)

    def _cannot_read(self, error: BaseException) -> None:
        self._watch.rest()  # the error says more
        self._readiness.unhealthy(self.name, f"cannot read the log: {error}")

    async def _apply_batches(
        self, connection: "Connection", batches: AsyncIterator[Batch], wait: StopAwareWait
    ) -> None:
        while True:
            batch = await wait(batches.__anext__)
            envelopes: Sequence[Envelope] = batch.envelopes
            if self._skips:
                envelopes = [e for e in envelopes if (partition_of(e.subject), e.position) not in self._skips]
            if envelopes or time.monotonic() - self._advanced_at >= IDLE_SECONDS:
                started = time.perf_counter()
                self._lag.begins(envelopes)
                await self._apply(connection, envelopes, batch.cursor)
                fold_duration.record(time.perf_counter() - started, self._projection.name)
                self._advanced_at = time.monotonic()
                self._lag.folded(envelopes)
                behind = len(batch.envelopes) >= BATCH // 2  # more events wait: a rest would only delay them
                await asyncio.sleep(0 if behind else self._projection.rest_seconds)
            if not batch.envelopes:
                self._lag.caught_up()
            self._watch.moved()
            self._readiness.healthy(self.name)

    async def _apply(self, connection: "Connection", envelopes: Sequence[Envelope], cursor: Cursor) -> None:
        """Apply a batch of several partitions, each to the position of the cursor."""
        readable = {
            partition: held.claim.position
            for partition in self._followed
            if (held := self._held.get(partition)) is not None
            and held.claim is not None
            and self._failures.may_be_read(held.claim)
        }
        if len(readable) < len(self._followed):
            # A partition was given up, or waits after a failure: its events are read again when it goes on.
            envelopes = [envelope for envelope in envelopes if partition_of(envelope.subject) in readable]
            self._changed.set()
        reached = {
            partition: cursor.after(partition)
            for partition, position in readable.items()
            if cursor.after(partition) > position
        }
        if not reached:
            return
        try:
            await self._commit(connection, envelopes, reached)
        except Fenced as error:
            self._fence(error.partitions or list(reached))
        except Exception as error:
            if not is_caused_by_values(error):
                raise
            name = self._projection.name
            log.info("projection.batch_failed", projection=name, error=shown(error), pii_error=repr(error))
            by_partition: dict[int, list[Envelope]] = {partition: [] for partition in reached}
            for envelope in envelopes:
                by_partition[partition_of(envelope.subject)].append(envelope)
            for partition, part in by_partition.items():
                await self._isolate(connection, partition, part, reached[partition])

    async def _isolate(
        self, connection: "Connection", partition: int, envelopes: Sequence[Envelope], reached: int
    ) -> bool:
        """Apply events of one partition, up to the first that fails; return whether none did."""
        try:
            await self._commit(connection, envelopes, {partition: reached})
        except Fenced:
            self._fence([partition])
            return False
        except Exception as error:
            if not envelopes or not is_caused_by_values(error):
                raise
            if len(envelopes) == 1:
                await self._failures.failed(connection, self._claim_of(partition), envelopes[0], error)
                return False
        else:
            return True
        half = len(envelopes) // 2
        middle = envelopes[half - 1].position
        assert isinstance(middle, int)
        return await self._isolate(connection, partition, envelopes[:half], middle) and await self._isolate(
            connection, partition, envelopes[half:], reached
        )

    async def _commit(
        self, connection: "Connection", envelopes: Sequence[Envelope], reached: Mapping[int, int]
    ) -> None:
        claims = {partition: self._claim_of(partition) for partition in reached}
        advance = Advance(
            self._projection.name,
            list(reached),
            epochs=[held.epoch for held in claims.values()],
            expected=[held.position for held in claims.values()],
            reached=list(reached.values()),
        )
        try:
            await apply(self._projection, connection, envelopes, advance, self._cache, self._traced)
        except BaseException:
            self._cache = Cache()  # it may have rows that were not written
            raise
        for partition, held in claims.items():
            self._failures.forget(partition)
            if partition in self._held:
                self._held[partition].claim = Claim(partition, reached[partition], held.epoch, None)

    def _claim_of(self, partition: int) -> Claim:
        held = self._held.get(partition)
        if held is None or held.claim is None:
            raise Fenced(f"partition {partition} was given up", [partition])
        return held.claim

    def _fence(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if (held := self._held.pop(partition, None)) is not None:
                held.fenced.set()
                held.left.set()  # it may wait for its last batch, which is not to come
        self._changed.set()
