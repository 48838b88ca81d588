"""Write one partition of the event log, under the fence of an epoch."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.database import AWAY, Database
from persistence.ingest.judge import DeadLetter, Entry, Judged
from persistence.keep import Fenced
from persistence.sql import read_sql

if TYPE_CHECKING:
    from chassis.database import Connection

FENCED = "AP001"
# Data that Postgres cannot hold: bad values, limits of the program, broken constraints.
_POISON_CLASSES = ("22", "54", "23")
_POSITION_TAKEN = "23505"

_COMMIT = read_sql(__package__, "commit.sql")
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

Numbered = list[tuple[int, int]]


NOT_NOW: tuple[type[Exception], ...] = (asyncpg.PostgresError, *AWAY)


class Poisoned(Exception):
    """A batch holds something that Postgres can never store."""


class Store:
    """Hold one connection for the writes of one partition, and how far they are."""

    def __init__(self, database: Database, partition: int) -> None:
        self.position = 0
        self._epoch = 0
        self._partition = partition
        self._name = f"ingest:{partition}"
        self._database = database
        self._connection: Connection | None = None

    async def claim(self) -> None:
        """Raise the epoch, so that every earlier writer is fenced, and read the checkpoint."""
        connection = await self._connected()
        [(self.position, self._epoch)] = await connection.fetch(_CLAIM, self._name)

    async def commit(self, batch: Sequence[Judged]) -> Numbered:
        """Commit a batch and return the sequence of each event that is new, by its ordinal.

        Raises Fenced, Poisoned, and what asyncpg raises when Postgres is away.
        """
        entries = [judged for judged in batch if isinstance(judged, Entry)]
        dead = [judged for judged in batch if isinstance(judged, DeadLetter)]
        position = batch[-1].incoming.position
        connection = await self._connected()
        try:
            rows = await connection.fetch(
                _COMMIT,
                self._partition,
                self._epoch,
                self.position,
                position,
                *_entry_columns(entries),
                *_dead_columns(dead),
            )
        except asyncpg.PostgresError as error:
            raise _told(error) from error
        self.position = position
        return [(ordinal, sequence) for ordinal, sequence in rows]

    async def settle(self, batch: Sequence[Judged]) -> Numbered | None:
        """Return what a commit whose outcome is unknown has brought, or None when it did not come through.

        Raises Fenced, and what asyncpg raises when Postgres is away.
        """
        connection = await self._connected()
        position, epoch = await connection.fetchrow(_LOOK, self._name) or (None, None)
        if epoch != self._epoch or position not in (self.position, batch[-1].incoming.position):
            raise Fenced(f"partition {self._partition} is at {position}, epoch {epoch}")
        if position == self.position:
            return None
        rows = await connection.fetch(_WRITTEN, self._partition, self.position, position)
        self.position = position
        entries = [judged for judged in batch if isinstance(judged, Entry)]
        ordinals = {entry.incoming.position: ordinal for ordinal, entry in enumerate(entries, 1)}
        return [(ordinals[written], sequence) for written, sequence in rows]

    async def release(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._database.pool.release(connection)

    async def _connected(self) -> "Connection":
        # Kept between commits: a pool resets what is given back, which is a round trip each time.
        if self._connection is not None and not _usable(self._connection):
            await self.release()
        if self._connection is None:
            self._connection = await self._database.pool.acquire()
        return self._connection


def _usable(connection: "Connection") -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it broke, and the pool has taken it back
        return False


def _told(error: asyncpg.PostgresError) -> Exception:
    """Turn what Postgres says into what it means for a batch; anything else means "not now"."""
    state = error.sqlstate or ""
    if state == FENCED:
        return Fenced(str(error))
    if state.startswith(_POISON_CLASSES) and state != _POSITION_TAKEN:
        return Poisoned(f"{type(error).__name__}: {error}")
    return error


def _entry_columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    envelopes = [entry.envelope for entry in entries]
    return (
        [entry.incoming.position for entry in entries],
        [envelope.subject for envelope in envelopes],
        [envelope.tenant for envelope in envelopes],
        [envelope.id for envelope in envelopes],
        [envelope.type for envelope in envelopes],
        [envelope.version for envelope in envelopes],
        [envelope.time for envelope in envelopes],
        [entry.text for entry in entries],
    )


def _dead_columns(dead: Sequence[DeadLetter]) -> tuple[list[Any], ...]:
    return (
        [letter.incoming.position for letter in dead],
        [_text(letter.incoming.subject) for letter in dead],
        [letter.incoming.payload for letter in dead],
        [json.dumps(dict(letter.incoming.headers or {})) for letter in dead],
        [_text(letter.error) for letter in dead],
    )


def _text(value: str) -> str:
    """Return what a text column can hold of a text."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
