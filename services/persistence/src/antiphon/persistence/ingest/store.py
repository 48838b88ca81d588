"""How far one partition of the event log is, and under which epoch we write it."""

from collections.abc import Sequence

from antiphon.chassis.database import Database
from antiphon.persistence.ingest.judge import DeadLetter, Entry, Judged
from antiphon.persistence.ingest.writer import Hand, Numbered, Writer
from antiphon.persistence.keep import Fenced

_CLAIM = """
insert into checkpoints (name, epoch) values ($1, 1)
on conflict (name) do update set epoch = checkpoints.epoch + 1, updated_at = now()
returning position, epoch
"""
_LOOK = "select position, epoch from checkpoints where name = $1"
_WRITTEN = """
select position, sequence from event_log
 where partition = $1 and position > $2 and position <= $3
 order by position
"""


class Store:
    """Commit one partition's batches under its fence."""

    def __init__(self, database: Database, writer: Writer, partition: int) -> None:
        self.position = 0
        self._epoch = 0
        self._partition = partition
        self._name = f"ingest:{partition}"
        self._database = database
        self._writer = writer

    async def claim(self) -> None:
        """Raise the epoch, so that every earlier writer is fenced, and read the checkpoint."""
        [(self.position, self._epoch)] = await self._database.pool.fetch(_CLAIM, self._name)

    async def commit(self, batch: Sequence[Judged]) -> Numbered:
        """Commit a batch and return the sequence of each event that is new, by its ordinal.

        Raises Fenced, Poisoned, and one of NOT_NOW.
        """
        reached = batch[-1].incoming.position
        entries = [judged for judged in batch if isinstance(judged, Entry)]
        dead = [judged for judged in batch if isinstance(judged, DeadLetter)]
        hand = Hand(self._partition, self._epoch, self.position, reached, entries, dead)
        numbered = await self._writer.commit(hand)
        self.position = reached
        return numbered

    async def settle(self, batch: Sequence[Judged]) -> Numbered | None:
        """Return what a commit whose outcome is unknown has brought, or None when it did not come through.

        Raises Fenced, and one of NOT_NOW.
        """
        row = await self._database.pool.fetchrow(_LOOK, self._name)
        position, epoch = row or (None, None)
        reached = batch[-1].incoming.position
        if epoch != self._epoch or position not in (self.position, reached):
            raise Fenced(f"partition {self._partition} is at {position}, epoch {epoch}")
        if position == self.position:
            return None
        rows = await self._database.pool.fetch(_WRITTEN, self._partition, self.position, reached)
        self.position = reached
        entries = [judged for judged in batch if isinstance(judged, Entry)]
        ordinals = {entry.incoming.position: ordinal for ordinal, entry in enumerate(entries, 1)}
        return [(ordinals[written], sequence) for written, sequence in rows]
