"""Write what the lines have in hand: all that wait go together, for one round trip and one fsync."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from antiphon.chassis.database import TRANSIENT, Database
from antiphon.persistence.ingest.judge import DeadLetter, Entry
from antiphon.persistence.keep import FENCED, Fenced
from antiphon.persistence.sql import read_sql, text

FLIGHTS = 2  # transactions at a time: one is in Postgres while the next is being put together
# Data that Postgres cannot hold: bad values, limits of the program, broken constraints.
_POISON_CLASSES = ("22", "54", "23")
_POSITION_TAKEN = "23505"

NOT_NOW: tuple[type[Exception], ...] = (asyncpg.PostgresError, *TRANSIENT)

_COMMIT = read_sql(__package__, "commit.sql")

Numbered = list[tuple[int, int]]


class Poisoned(Exception):
    """A batch holds something that Postgres can never store."""


@dataclass(frozen=True, slots=True)
class Hand:
    """Hold what one partition has to commit, and the fence that it commits under."""

    partition: int
    epoch: int
    expected: int
    reached: int
    entries: Sequence[Entry]
    dead: Sequence[DeadLetter]


_Waiting = tuple[Hand, asyncio.Future[Numbered]]


class Writer:
    """Commit for all lines of a process, a few transactions at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._flights = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def commit(self, hand: Hand) -> Numbered:
        """Commit and return the sequence of each event that is new, by its ordinal from 1.

        Raises Fenced, Poisoned, and one of NOT_NOW.
        """
        future: asyncio.Future[Numbered] = asyncio.get_running_loop().create_future()
        self._waiting.append((hand, future))
        if self._flights < FLIGHTS:
            self._flights += 1
            task = asyncio.create_task(self._fly(), name="ingest commit")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _fly(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._commit_group(group)
        finally:
            self._flights -= 1  # at once: whoever comes after the last look must find room for a flight

    async def _commit_group(self, group: list[_Waiting]) -> None:
        try:
            numbered = await self._write([hand for hand, _ in group])
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            told = _told(error)
            if len(group) == 1 or not isinstance(told, (Fenced, Poisoned)):
                _fail(group, told)
                return
            for waiting in group:  # it is one partition's affair: the others go on
                await self._commit_group([waiting])
        else:
            for (_, future), mine in zip(group, numbered, strict=True):
                if not future.done():
                    future.set_result(mine)

    async def _write(self, hands: Sequence[Hand]) -> list[Numbered]:
        async with self._database.pool.acquire() as connection:
            rows = await connection.fetch(
                _COMMIT,
                [hand.partition for hand in hands],
                [hand.epoch for hand in hands],
                [hand.expected for hand in hands],
                [hand.reached for hand in hands],
                *_entry_columns(hands),
                *_dead_columns(hands),
            )
        return _shared_out(hands, rows)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)


def _shared_out(hands: Sequence[Hand], rows: Iterable[Any]) -> list[Numbered]:
    """Give each hand its own rows, with ordinals that count from its own first entry."""
    shares: list[Numbered] = [[] for _ in hands]
    ends, end = [], 0
    for hand in hands:
        end += len(hand.entries)
        ends.append(end)
    index = 0
    for ordinal, sequence in rows:
        while ordinal > ends[index]:
            index += 1
        shares[index].append((ordinal - ends[index] + len(hands[index].entries), sequence))
    return shares


def _told(error: Exception) -> Exception:
    """Turn what Postgres says into what it means for a batch; anything else means "not now"."""
    state = error.sqlstate or "" if isinstance(error, asyncpg.PostgresError) else ""
    if state == FENCED:
        return Fenced(str(error))
    if state.startswith(_POISON_CLASSES) and state != _POSITION_TAKEN:
        return Poisoned(f"{type(error).__name__}: {error}")
    return error


def _entry_columns(hands: Sequence[Hand]) -> tuple[list[Any], ...]:
    entries = [entry for hand in hands for entry in hand.entries]
    envelopes = [entry.envelope for entry in entries]
    return (
        [hand.partition for hand in hands for _ in hand.entries],
        [entry.incoming.position for entry in entries],
        [envelope.subject for envelope in envelopes],
        [envelope.tenant for envelope in envelopes],
        [envelope.id for envelope in envelopes],
        [envelope.type for envelope in envelopes],
        [envelope.version for envelope in envelopes],
        [envelope.time for envelope in envelopes],
        [entry.text for entry in entries],
    )


def _dead_columns(hands: Sequence[Hand]) -> tuple[list[Any], ...]:
    letters = [letter for hand in hands for letter in hand.dead]
    return (
        [hand.partition for hand in hands for _ in hand.dead],
        [letter.incoming.position for letter in letters],
        [_holdable(letter.incoming.subject) for letter in letters],
        [letter.incoming.payload for letter in letters],
        [json.dumps(dict(letter.incoming.headers or {})) for letter in letters],
        [_holdable(letter.error) for letter in letters],
    )


def _holdable(value: str) -> str:
    """Return what a text column can hold of a text: no NUL, no lone surrogate."""
    return text(value).encode(errors="replace").decode()
