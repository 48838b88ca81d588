"""The loop of a projection: batch and checkpoint in one transaction, errors its own affair."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.condition import Condition, NotReady
from antiphon.persistence.keep import Fenced
from antiphon.persistence.projection import Columns, Projection, ProjectionLoop

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, Lines, LogReader, Publish, Story, Tell

REFUSED = "refused"
WRITE = """
with moved as materialized (select move_projection($1, $2, $3, $4))
insert into {name} (id) select id from moved, unnest($5::text[]) as row (id)
"""


class Seen:
    """A projection that writes down the ids it was given, and fails in Postgres when told to."""

    def __init__(self, name: str) -> None:
        self.projection = Projection(name, self.ids, WRITE.format(name=name))
        self.condition = Condition()
        self.stop = asyncio.Event()
        self.fails = False
        self.failures = 0

    async def ids(self, _: object, envelopes: Sequence[Envelope], __: object) -> Columns:
        if self.fails:
            self.failures += 1
        return [[envelope.id for envelope in envelopes] + [REFUSED] * self.fails]

    async def failed_twice(self) -> bool:
        return self.failures >= 2

    async def ready(self) -> bool:
        return not await self.reason()

    async def reason(self) -> str:
        try:
            await self.condition.check()
        except NotReady as error:
            return str(error)
        return ""


class Loops:
    """Run loops in the test's own loop."""

    def __init__(self, bus: Bus, database: Database, eventually: Callable[..., Awaitable[None]]) -> None:
        self.eventually = eventually
        self._bus = bus
        self._database = database
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: list[Seen] = []

    async def start(self, seen: Seen) -> asyncio.Task[None]:
        table = f"create table if not exists {seen.projection.name} (id text check (id <> '{REFUSED}'))"
        await self._database.pool.execute(table)
        log = Log(self._database, self._bus)
        loop = ProjectionLoop(seen.projection, self._database, log, seen.condition)
        self._tasks.append(asyncio.create_task(loop.run(seen.stop)))
        self._seen.append(seen)
        return self._tasks[-1]

    async def end(self) -> None:
        for seen in self._seen:
            seen.stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 20)

    async def ids(self, seen: Seen) -> list[str]:
        rows = await self._database.pool.fetch(f"select id from {seen.projection.name}")
        return [row["id"] for row in rows]

    async def until_ids(self, seen: Seen, ids: list[str]) -> None:
        """Wait until the view holds these."""

        async def there() -> bool:
            return await self.ids(seen) == ids

        await self.eventually(there)

    async def until_count(self, seen: Seen, count: int) -> None:
        """Wait until the view holds so many."""

        async def there() -> bool:
            return len(await self.ids(seen)) == count

        await self.eventually(there)


@pytest.fixture
async def loops(bus: Bus, database: Database, eventually: "Eventually") -> AsyncIterator[Loops]:
    loops = Loops(bus, database, eventually)
    yield loops
    await loops.end()


async def test_history_comes_first_and_then_what_happens(
    loops: Loops, lines: "Lines", publish: "Publish", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("history")
    lines.start(told.partition)
    await publish([told.requested(), told.turn(1)])
    await event_log.until(2)
    seen = Seen("history")
    await loops.start(seen)
    await publish([told.turn(2)])

    await loops.until_ids(seen, [event for _, event in await _log(event_log, told, 3)])
    assert await seen.reason() == ""


async def test_it_goes_on_from_its_checkpoint(
    loops: Loops, lines: "Lines", publish: "Publish", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("goes on")
    lines.start(told.partition)
    await publish([told.requested()])
    seen = Seen("goes_on")
    await loops.start(seen)
    await loops.until_count(seen, 1)
    await loops.end()

    await publish([told.turn(1)])
    seen.stop = asyncio.Event()
    await loops.start(seen)
    await loops.until_ids(seen, [event for _, event in await _log(event_log, told, 2)])


async def test_one_that_fails_says_so_and_holds_nobody_up(
    loops: Loops, lines: "Lines", publish: "Publish", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("fails")
    lines.start(told.partition)
    broken, healthy = Seen("broken"), Seen("healthy")
    broken.fails = True
    await loops.start(broken)
    await loops.start(healthy)
    await publish([told.requested(), told.turn(1)])

    ids = [event for _, event in await _log(event_log, told, 2)]
    await loops.until_ids(healthy, ids)
    await loops.eventually(broken.failed_twice)
    assert "CheckViolation" in await broken.reason()
    assert await healthy.reason() == ""
    assert await loops.ids(broken) == []  # rows and checkpoint stand or fall together

    broken.fails = False
    await loops.until_ids(broken, ids)
    await loops.eventually(broken.ready)


async def test_one_whose_checkpoint_another_moved_ends(
    loops: Loops,
    lines: "Lines",
    publish: "Publish",
    event_log: "LogReader",
    story: "Tell",
    database: Database,
) -> None:
    told = story("moved")
    lines.start(told.partition)
    await publish([told.requested()])
    seen = Seen("moved")
    task = await loops.start(seen)
    await loops.until_count(seen, 1)

    await database.pool.execute("update projection_checkpoints set position = position + 100")
    await publish([told.turn(1)])

    with pytest.raises(Fenced):
        await asyncio.wait_for(task, 15)
    assert len(await loops.ids(seen)) == 1


async def _log(event_log: "LogReader", told: "Story", count: int) -> list[tuple[int, str]]:
    await event_log.until(count)
    return await event_log.events(told.session_id)


async def test_what_a_crash_of_postgres_took_from_a_view_is_folded_again(
    loops: Loops,
    lines: "Lines",
    publish: "Publish",
    story: "Tell",
    postgres_dsn: str,
    eventually: "Eventually",
) -> None:
    """A view may lose its last writes, for it does not wait for the disk; even when nothing more happens."""
    told = story("crash")
    lines.start(told.partition)
    seen = Seen("crash")
    await loops.start(seen)
    await publish([told.requested(), told.turn(1)])
    await loops.until_count(seen, 2)

    await _as_after_a_crash(postgres_dsn)
    await loops.until_count(seen, 2)
    await eventually(seen.ready)


async def _as_after_a_crash(dsn: str) -> None:
    """Take back the last of rows and checkpoint, which fall together, and end every connection."""
    crash = await asyncpg.connect(dsn)
    async with crash.transaction():
        await crash.execute("delete from crash")
        await crash.execute("update projection_checkpoints set position = 0")
    await crash.execute("""
        select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
    """)
    await crash.close()
