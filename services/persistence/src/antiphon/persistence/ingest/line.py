"""One partition's line: pull, judge, commit, announce, acknowledge; in order, and each event once."""

import asyncio
from dataclasses import dataclass

import structlog

from antiphon.chassis.bus import Bus, BusError, ConsumerLost, Incoming
from antiphon.chassis.database import Database
from antiphon.contracts.streams import ingest_consumer
from antiphon.persistence.condition import Condition
from antiphon.persistence.ingest.acknowledge import acknowledging
from antiphon.persistence.ingest.announce import announcements
from antiphon.persistence.ingest.commit import Committer, TooManyDeadLetters
from antiphon.persistence.ingest.judge import judge
from antiphon.persistence.ingest.store import Store
from antiphon.persistence.ingest.tracing import trace_commit
from antiphon.persistence.ingest.writer import NOT_NOW, Writer
from antiphon.persistence.patience import Interruptible, Patience, Stopped

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LineOptions:
    """Say how a line works."""

    batch: int = 500  # events at most in one commit
    dead_letters_in_a_row: int = 100  # then the line stops, until a person has looked


class Line:
    """Carry one partition from the bus to the event log."""

    def __init__(
        self,
        partition: int,
        bus: Bus,
        database: Database,
        writer: Writer,
        condition: Condition,
        options: LineOptions,
    ) -> None:
        self._partition = partition
        self._name = f"partition {partition}"
        self._bus = bus
        self._consumer = ingest_consumer(partition)
        self._condition = condition
        self._options = options
        self._store = Store(database, writer, partition)

    async def run(self, stop: asyncio.Event) -> None:
        """Carry until stopped; finish the batch in hand.

        Raises Fenced.
        """
        self._condition.starting(self._name)
        committer = Committer(self._store, self._condition, self._name, self._options.dead_letters_in_a_row)
        try:
            await self._claim(stop)
            await self._carry_for_ever(committer, stop)
        except Stopped:
            return
        except TooManyDeadLetters as error:
            # Whatever is wrong would go on: hold what follows on the stream rather than set it all aside.
            self._condition.bad(self._name, f"the line is stopped: {error}")
            await stop.wait()
        finally:
            self._condition.good(self._name)

    async def _claim(self, stop: asyncio.Event) -> None:
        patience = Patience(stop)
        while True:
            try:
                await self._store.claim()
            except NOT_NOW as error:
                self._condition.bad(self._name, f"cannot read its checkpoint: {error!r}")
                await patience.pause()
            else:
                return

    async def _carry_for_ever(self, committer: Committer, stop: asyncio.Event) -> None:
        patience = Patience(stop)
        while not stop.is_set():
            try:
                await self._carry(committer, stop, patience)
            except BusError as error:
                self._condition.bad(self._name, f"cannot pull: {error}")
                await patience.pause()
                if isinstance(error, ConsumerLost):
                    await self._make_consumer()

    async def _carry(self, committer: Committer, stop: asyncio.Event, patience: Patience) -> None:
        # Not "skip what is at or before the checkpoint": after a crash the broker delivers what is new
        # before what was delivered and not acknowledged, and skipping would lose the latter.
        await self._bus.reset_consumer(self._consumer, self._store.position + 1)
        async with (
            self._bus.pull(self._consumer, batch=self._options.batch) as puller,
            acknowledging(puller) as acknowledgements,
            Interruptible(stop) as unless_stopped,
        ):
            self._condition.good(self._name)
            while True:
                batch = await unless_stopped.wait(puller.next())
                await self._take(batch, committer, stop)
                acknowledgements.through(batch)
                patience.reset()

    async def _take(self, batch: list[Incoming], committer: Committer, stop: asyncio.Event) -> None:
        judged = [judge(incoming, self._partition) for incoming in batch]
        with trace_commit(self._partition, judged):
            async for entries, numbered in committer.commit(judged, stop):
                for subject, payload in announcements(entries, numbered):
                    await self._bus.announce(subject, payload)

    async def _make_consumer(self) -> None:
        try:
            await self._bus.ensure()
        except BusError as error:
            self._condition.bad(self._name, f"cannot make its consumer: {error}")
