"""Verify views: the rows of each session, or of each partition, against the fold of the log."""

import heapq
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope, committed, decode
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.projection import Projection, ViewTable
from antiphon.persistence.projection.checkpoint import skips
from antiphon.persistence.projection.tables import Key, Values
from antiphon.persistence.verify.view_rows import (
    Comparable,
    Fold,
    Taken,
    comparable,
    key_of,
    same,
    stored_rows,
)

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

CHUNK = 100  # sessions whose rows are compared at once
PAGE = 2_000  # events that are read at once
CHOSEN_FROM = 5_000  # sessions that are read at once to choose a sample
COMPARED = 20_000  # events after which the rows of the sessions that are complete are compared
LISTED = 1_000  # differences that are kept; the others are counted
SHORT = 200  # characters of a value in a difference

OnEvents = Callable[[int], None]

# One step of the index per session, however many events each has.
_SESSIONS = """
with recursive found (session_id, number) as (
 (select session_id, 1 from event_log where session_id > $1 order by session_id limit 1)
  union all
  select after.session_id, number + 1
    from found
   cross join lateral (
      select session_id from event_log where event_log.session_id > found.session_id
       order by session_id limit 1) as after
   where number < $2
)
select session_id from found order by session_id
"""
_SESSIONS_SINCE = """
select distinct session_id
  from unnest($3::smallint[], $4::bigint[]) as start (partition, position)
  join event_log on event_log.partition = start.partition and event_log.position > start.position
 where session_id > $1
 order by session_id limit $2
"""
_EVENTS = """
select session_id, sequence, event_log.position, event_log.partition, envelope
  from event_log
  join projection_checkpoints as checkpoint
    on checkpoint.projection = $1 and checkpoint.partition = event_log.partition
   and event_log.position <= checkpoint.position
 where session_id = any($4) and (session_id, sequence) > ($2, $3)
   and ($5::text[] is null or type = any($5))
 order by session_id, sequence
 limit $6
"""
_PARTITION = """
select session_id, sequence, event_log.position, event_log.partition, envelope
  from event_log
 where partition = $1 and position > $2 and ($4::text[] is null or type = any($4))
   and position <= (select position from projection_checkpoints where projection = $5 and partition = $1)
 order by position
 limit $3
"""
_VERSION = "select version from projections where name = $1"
_STRANGE = """
select distinct session_id from {table}
 where not exists (select from event_log where event_log.session_id = {table}.session_id)
   and not exists (select from erased_sessions where erased_sessions.session_id = {table}.session_id)
 limit $1
"""


class Difference(msgspec.Struct, frozen=True):
    """A field of a row that is not what the log says; without a field, a row that is missing or too many."""

    view: str
    session: str | None
    row: str
    field: str | None
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        session = f" session {self.session}" if self.session else ""
        place = f"{self.view}{session} ({self.row})"
        if self.field is None:
            return f"{place}: expected {self.expected or 'no row'}, found {self.found or 'no row'}"
        return f"{place} {self.field}: expected {self.expected}, found {self.found}"


class OtherVersion(Exception):
    """The live view was not built by this version of the code, which cannot tell what it should hold."""


class ViewReport(msgspec.Struct):
    """The result of verifying one view."""

    view: str
    sessions: int = 0
    of_sessions: int | None = None  # of a sample: how many there are to choose from
    events: int = 0
    rows: int = 0
    left_out: list[str] = []
    difference_count: int = 0
    differences: list[Difference] = []

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it if it is one of the first."""
        self.difference_count += 1
        if len(self.differences) < LISTED:
            self.differences = [*self.differences, difference]


async def verify_view(
    database: Database,
    projection: Projection,
    *,
    since: datetime | None = None,
    sample: int | None = None,
    on_events: OnEvents = lambda _: None,
) -> ViewReport:
    """Compare the live view with the fold of the log, up to the view's own checkpoints.

    `since` takes sessions with an event committed since, `sample` that many different sessions at random, or
    all if there are fewer. Tables that are not by session are compared as a whole, and left out of a part.
    Raises OtherVersion, EventFailed, DatabaseUnavailable, and any of POSTGRES_ERRORS.
    """
    verifying = _Verifying(database, projection, on_events)
    by_session = [table for table in projection.tables if "session_id" in table.key]
    others = [table for table in projection.tables if "session_id" not in table.key]
    if sample is not None:
        await verifying.sample(sample, by_session, since)
    elif by_session and (not others or since is not None):
        await verifying.all_sessions(by_session, since)
    if others and sample is None and since is None:
        await verifying.partitions(projection.tables)
    elif others:
        verifying.report.left_out = [str(table.name) for table in others]
    if sample is None and since is None:
        await verifying.strangers(by_session)
    return verifying.report


class _Verifying:
    def __init__(self, database: Database, projection: Projection, on_events: OnEvents) -> None:
        self.report = ViewReport(projection.name)
        self._database = database
        self._projection = projection
        self._types = None if projection.types is None else sorted(projection.types)
        self._on_events = on_events

    async def all_sessions(self, tables: Sequence[ViewTable], since: datetime | None) -> None:
        """Compare all sessions, some at a time."""
        async for ids in self._pages(CHUNK, since):
            await self.sessions(ids, tables)

    async def sample(self, count: int, tables: Sequence[ViewTable], since: datetime | None) -> None:
        """Compare some sessions, of which each is as likely as another, however long it is."""
        chosen: list[str] = []
        known = 0
        async for ids in self._pages(CHOSEN_FROM, since):
            for session in ids:
                known += 1
                if len(chosen) < count:
                    chosen.append(session)
                elif (place := random.randrange(known)) < count:
                    chosen[place] = session
        self.report.of_sessions = known
        await self.sessions(chosen, tables)

    async def _pages(self, size: int, since: datetime | None) -> AsyncIterator[list[str]]:
        """Yield all sessions in the order of their ids, or those with an event committed since a time."""
        query, more = _SESSIONS, ()
        if since is not None:
            start = await Log(self._database, None).at(since)
            query = _SESSIONS_SINCE
            more = (list(range(PARTITIONS)), [start.after(p) for p in range(PARTITIONS)])  # type: ignore[assignment]
        last = ""
        while rows := await self._database.pool.fetch(query, last, size, *more):
            last = rows[-1][0]
            yield [row[0] for row in rows]

    async def sessions(self, ids: Collection[str], tables: Sequence[ViewTable]) -> None:
        """Compare the rows of some sessions."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            async with self._snapshot() as connection:
                fold, compared = Fold(self._projection), ""
                place: tuple[str, int] = ("", 0)
                while True:
                    found = await connection.fetch(
                        _EVENTS, self._projection.name, *place, chunk, self._types, PAGE
                    )
                    if len(found) < PAGE:
                        break
                    place = (found[-1]["session_id"], found[-1]["sequence"])
                    if fold.events + len(found) > COMPARED and compared < place[0]:
                        complete = [row for row in found if row["session_id"] < place[0]]
                        await self._fold(connection, fold, complete)
                        ended = [name for name in chunk if compared <= name < place[0]]
                        await self._compare_sessions(connection, tables, fold, ended)
                        fold, compared, found = Fold(self._projection), place[0], found[len(complete) :]
                    await self._fold(connection, fold, found)
                await self._fold(connection, fold, found)
                rest = [name for name in chunk if compared <= name]
                await self._compare_sessions(connection, tables, fold, rest)
            self.report.sessions += len(chunk)

    async def _compare_sessions(
        self, connection: "Connection", tables: Sequence[ViewTable], fold: Fold, sessions: Sequence[str]
    ) -> None:
        for table in tables:
            stored = stored_rows(connection, table, "session_id = any($1)", sessions)
            await self._compare(table, fold.taken(table), stored)

    async def partitions(self, tables: Sequence[ViewTable]) -> None:
        """Compare all rows, the events of one partition at a time."""
        taken: dict[str, Taken] = {table.name: {} for table in tables}
        async with self._snapshot() as connection:
            for partition in range(PARTITIONS):
                fold, last = Fold(self._projection), 0
                while True:
                    found = await connection.fetch(
                        _PARTITION, partition, last, PAGE, self._types, self._projection.name
                    )
                    await self._fold(connection, fold, found)
                    if len(found) < PAGE:
                        break
                    last = found[-1]["position"]
                for table in tables:
                    taken[table.name] |= fold.taken(table)
            for table in tables:
                await self._compare(table, taken.pop(table.name), stored_rows(connection, table, "true"))

    async def strangers(self, tables: Sequence[ViewTable]) -> None:
        """Find rows of sessions that the log does not have."""
        for table in tables:
            for row in await self._database.pool.fetch(_STRANGE.format(table=table.name), LISTED):
                self.report.add(
                    Difference(
                        self._projection.name, row[0], str(table.name), None, None, "rows of no session"
                    )
                )

    async def _fold(self, connection: "Connection", fold: Fold, rows: Sequence[Any]) -> None:
        skipped = await skips(connection, self._projection)
        envelopes: list[Envelope] = [
            committed(decode(row["envelope"]), row["sequence"], row["position"])
            for row in rows
            if (row["partition"], row["position"]) not in skipped
        ]
        fold.add(envelopes)
        self.report.events += len(rows)
        self._on_events(len(rows))

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator["Connection"]:
        # One snapshot of log, checkpoints and view: the live loops may go on beside it.
        async with (
            self._database.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            # Before the snapshot: a view that is exchanged after it would be empty in it.
            tables = ", ".join(table.name for table in self._projection.tables)
            await connection.execute(f"lock table {tables} in access share mode")
            await connection.execute("set local enable_seqscan = off")  # whatever the statistics say
            await self._check_version(connection)
            yield connection

    async def _check_version(self, connection: "Connection") -> None:
        name, version = self._projection.name, self._projection.version
        live: int | None = await connection.fetchval(_VERSION, name)
        if live is None:
            raise OtherVersion(f"the view {name} does not exist: `persistence rebuild {name}` builds it")
        if live != version:
            raise OtherVersion(
                f"the live view {name} has version {live} and this code has version {version}: verify it "
                f"with the release that built it, or build it in version {version} before"
            )

    async def _compare(self, table: ViewTable, taken: Taken, stored: AsyncIterator[Comparable]) -> None:
        """Compare rows one by one: of those that are the same nothing is kept."""
        self.report.rows += len(taken)
        different: list[tuple[Key, list[Difference]]] = []
        async for found in stored:
            key = key_of(table, found)
            values = taken.pop(key, None)
            wanted = None if values is None else _row(table, values)
            if wanted is None or not same(wanted, found):
                differences = self._differences(table, key, wanted, found)
                if len(different) < LISTED:
                    different.append((key, differences))
                else:
                    self.report.difference_count += len(differences)
        missing = (
            (key, self._differences(table, key, _row(table, taken[key]), None)) for key in sorted(taken)
        )
        different.sort(key=itemgetter(0))
        for _, differences in heapq.merge(different, missing, key=itemgetter(0)):
            for difference in differences:
                self.report.add(difference)

    def _differences(
        self,
        table: ViewTable,
        key: tuple[Any, ...],
        expected: dict[str, Any] | None,
        found: dict[str, Any] | None,
    ) -> list[Difference]:
        named = dict(zip(table.key, key, strict=True))
        session = named.pop("session_id", None)
        view = self._projection.name
        row = ", ".join([table.name, *(f"{name} {value}" for name, value in named.items())])
        if expected is None or found is None:
            there = (None if expected is None else "a row", None if found is None else "a row")
            return [Difference(view, session, row, None, *there)]
        return [
            Difference(view, session, row, str(name), _short(expected[name]), _short(found[name]))
            for name in table.columns
            if expected[name] != found[name]
        ]


def _row(table: ViewTable, values: Values) -> Comparable:
    return comparable(table, dict(zip(table.columns, values, strict=True)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}… ({len(text)} characters)"
