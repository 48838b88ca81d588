"""Bring a batch into the log whatever it takes: wait for Postgres, set aside what it cannot hold."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from antiphon.persistence.condition import Condition
from antiphon.persistence.ingest.judge import DeadLetter, Entry, Judged
from antiphon.persistence.ingest.store import Store
from antiphon.persistence.ingest.writer import NOT_NOW, Numbered, Poisoned
from antiphon.persistence.patience import Patience

log = structlog.get_logger(__name__)

Committed = tuple[Sequence[Entry], Numbered]


class TooManyDeadLetters(Exception):
    """So many messages in a row cannot all be wrong: a person has to look."""


class Committer:
    """Commit batches of one partition through its store."""

    def __init__(self, store: Store, condition: Condition, name: str, dead_letters_in_a_row: int) -> None:
        self._store = store
        self._condition = condition
        self._name = name
        self._limit = dead_letters_in_a_row
        self._dead = 0  # in a row, up to the last commit

    async def commit(self, batch: Sequence[Judged], stop: asyncio.Event) -> AsyncIterator[Committed]:
        """Commit a batch and yield after each commit what it brought; one, unless the batch is poisoned.

        Raises Fenced, Stopped, TooManyDeadLetters.
        """
        left = list(batch)
        size = len(left)
        while left:
            chunk = self._up_to_the_limit(left[:size])
            try:
                numbered = await self._commit(chunk, stop)
            except Poisoned as error:
                size = max(1, len(chunk) // 2)
                if len(chunk) == 1:
                    left[0] = DeadLetter(chunk[0].incoming, str(error))
                continue
            yield [judged for judged in chunk if isinstance(judged, Entry)], numbered
            left = left[len(chunk) :]
            size *= 2
            self._count(chunk)

    async def _commit(self, chunk: Sequence[Judged], stop: asyncio.Event) -> Numbered:
        patience = Patience(stop)
        uncertain = False  # a connection that breaks does not say whether the commit came through
        while True:
            try:
                numbered = await self._store.settle(chunk) if uncertain else None
                if numbered is None:
                    numbered = await self._store.commit(chunk)
            except NOT_NOW as error:
                uncertain = True
                self._condition.bad(self._name, f"holds {len(chunk)} events, Postgres says {error!r}")
                await patience.pause()
            else:
                if uncertain:
                    self._condition.good(self._name)
                return numbered

    def _up_to_the_limit(self, chunk: list[Judged]) -> list[Judged]:
        dead = self._dead
        for index, judged in enumerate(chunk):
            dead = dead + 1 if isinstance(judged, DeadLetter) else 0
            if dead == self._limit:
                return chunk[: index + 1]
        return chunk

    def _count(self, chunk: Sequence[Judged]) -> None:
        for judged in chunk:
            if isinstance(judged, Entry):
                self._dead = 0
                continue
            self._dead += 1
            incoming = judged.incoming
            log.warning("ingest.dead_letter", position=incoming.position, subject=incoming.subject)
        if self._dead >= self._limit:
            last = chunk[-1]
            reason = last.error if isinstance(last, DeadLetter) else ""
            raise TooManyDeadLetters(f"{self._dead} dead letters in a row; the last: {reason}")
