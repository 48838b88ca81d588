"""A view that cannot fold an event is stalled there; the other views, partitions and ingest go on."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text
from sqlalchemy.schema import SchemaItem
from structlog.testing import capture_logs
from tests.fixtures.filled_log import FilledLog
from tests.persistence.held_loop import hold_all

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.chassis.log_errors import without_messages
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.errors import NotReady
from antiphon.persistence.projection import Projection, Rows, ViewTable
from antiphon.persistence.projection.loop import ProjectionLoop
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.resume import resume, skip_event
from antiphon.persistence.settings import RebuildSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, NewSession, Publish, RunningIngest, SampleSession


class Texts:
    """A view of what users said, which cannot fold the text `poison` while it is `broken`."""

    def __init__(self) -> None:
        names = ("turn", "times")
        columns: list[SchemaItem] = [
            Column("session_id", Text, primary_key=True),
            Column("event_id", Text, primary_key=True),
            *(Column(name, Integer) for name in names),
        ]
        self.table = ViewTable(Table("turns_said", MetaData(), *columns))
        self.projection = Projection("turns_said", self.table)
        self.projection.on(TurnSaved)(self.said)
        self.broken = True

    def said(self, event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
        if event.user_text == "poison" and self.broken:
            raise RuntimeError("cannot say this")
        row = rows(self.table, envelope.subject, envelope.id)
        row["turn"] = event.turn
        row["times"] = row.get("times", 0) + 1


class Running:
    """The loop of the view, its readiness and its rows."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self.texts = Texts()
        self.database = database
        self.readiness = ReadinessCheck()
        self.stop = asyncio.Event()
        loop = ProjectionLoop(self.texts.projection, database, Log(database, bus), self.readiness)
        self.tasks = hold_all(loop, self.stop)

    async def turns(self) -> list[int]:
        return [row[0] for row in await self.database.pool.fetch("select turn from turns_said order by 1")]

    async def reason(self) -> str:
        try:
            await self.readiness.check()
        except NotReady as error:
            return str(error)
        return ""


@pytest.fixture
async def running(bus: Bus, database: Database, postgres_dsn: str) -> AsyncIterator[Running]:
    await build(postgres_dsn, database, Texts().projection)
    running = Running(bus, database)
    yield running
    running.stop.set()
    await asyncio.wait_for(asyncio.gather(*running.tasks), 60)


def elsewhere(new_session: "NewSession", other: "SampleSession", name: str = "elsewhere") -> "SampleSession":
    """Return a session of another partition."""
    for number in range(100):
        session: SampleSession = new_session(f"{name} {number}")
        if session.partition != other.partition:
            return session
    raise AssertionError


@pytest.fixture
async def stalled(
    running: Running,
    ingest: "RunningIngest",
    publish: "Publish",
    new_session: "NewSession",
    eventually: "Eventually",
) -> "SampleSession":
    """A session whose second turn the view cannot fold; its third, and those of another partition, follow."""
    session: SampleSession = new_session("stalls")
    other = elsewhere(new_session, session)
    ingest.start(session.partition, other.partition)
    await publish([session.turn(1), session.turn(2, "poison"), session.turn(3)])

    async def is_stalled() -> bool:
        return "stalled at event" in await running.reason()

    await eventually(is_stalled)
    await publish([other.turn(11), other.turn(12)])

    async def others_go_on() -> bool:
        return await running.turns() == [1, 11, 12]

    await eventually(others_go_on)
    return session


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged, from before the view is stalled."""
    with capture_logs() as lines:
        yield lines


async def test_no_line_has_what_the_error_quotes(
    logged: list[Any], stalled: "SampleSession", running: Running
) -> None:
    shown = [{name: line[name] for name in line if name != "pii_error"} for line in logged]
    events = {line["event"] for line in shown if "RuntimeError((hidden))" in str(line)}
    events |= {line["event"] for line in shown if "stalled at event" in str(line)}
    assert events >= {"projection.event_failed", "projection.stalled", "readiness.unhealthy"}
    for line in shown:
        error = line.pop("exc_info", None)
        tracebacks = without_messages((type(error), error, error.__traceback__)) if error else []
        assert "cannot say" not in f"{line} {tracebacks}"
    assert "cannot say" in await running.reason()  # an operator who asks may know


async def test_events_behind_one_that_fails_are_folded_once(
    stalled: "SampleSession",
    running: Running,
    publish: "Publish",
    ingest: "RunningIngest",
    new_session: "NewSession",
    postgres_dsn: str,
    eventually: "Eventually",
) -> None:
    """While a partition waits, batches hold events of others: none of its own may be folded with them."""
    other = elsewhere(new_session, stalled, "later")
    ingest.start(other.partition)
    await resume(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", skip=False)
    for turn in range(100, 140):
        await publish([stalled.turn(turn), other.turn(turn + 100)])
        await asyncio.sleep(0.02)

    async def all_of_the_other() -> bool:
        return len(await running.turns()) == 3 + 40

    await eventually(all_of_the_other)
    assert not [turn for turn in await running.turns() if 100 <= turn < 140]
    running.texts.broken = False
    await resume(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", skip=False)

    async def all_there() -> bool:
        return len(await running.turns()) == 5 + 80

    await eventually(all_there)
    times = await running.database.pool.fetch("select distinct times from turns_said")
    assert [row[0] for row in times] == [1]


async def test_readiness_and_status_name_the_event(
    stalled: "SampleSession", running: Running, postgres_dsn: str
) -> None:
    reason = await running.reason()
    assert f"projection turns_said partition {stalled.partition} stalled at event" in reason
    assert f"turn.saved, sequence 2 of {stalled.session_id}" in reason
    assert "RuntimeError('cannot say this')" in reason

    document = await running.database.pool.fetchval(
        "select stalled from projection_checkpoints where stalled is not null"
    )
    assert json.loads(document)["sequence"] == 2


async def test_a_view_goes_on_after_the_fix(
    stalled: "SampleSession", running: Running, postgres_dsn: str, eventually: "Eventually"
) -> None:
    running.texts.broken = False
    [resumed] = await resume(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", skip=False)
    assert (resumed.partition, resumed.stalled.sequence, resumed.skipped) == (stalled.partition, 2, False)

    async def all_there() -> bool:
        return await running.turns() == [1, 2, 3, 11, 12] and not await running.reason()

    await eventually(all_there)


async def test_a_view_that_is_resumed_without_a_fix_stalls_again(
    stalled: "SampleSession", running: Running, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await resume(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", skip=False)

    async def stalled_again() -> bool:
        query = "select count(*) from projection_checkpoints where stalled is not null"
        return await running.database.pool.fetchval(query) == 1 and "stalled" in await running.reason()

    await eventually(stalled_again)
    assert await running.turns() == [1, 11, 12]


async def test_a_skipped_event_is_recorded_and_skipped_by_rebuilds_too(
    stalled: "SampleSession", running: Running, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await resume(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", skip=True)

    async def all_others() -> bool:
        return await running.turns() == [1, 3, 11, 12] and not await running.reason()

    await eventually(all_others)
    row = await running.database.pool.fetchrow(
        "select projection, session_id, sequence, type, error from projection_skips"
    )
    assert row is not None
    error = "RuntimeError('cannot say this')"
    assert tuple(row) == ("turns_said", stalled.session_id, 2, "turn.saved", error)

    await build(postgres_dsn, running.database, running.texts.projection)
    await eventually(all_others)


async def test_an_event_is_skipped_before_a_build_comes_to_it(
    stalled: "SampleSession", running: Running, postgres_dsn: str
) -> None:
    settings = RebuildSettings(postgres_dsn=postgres_dsn)
    said = await skip_event(settings, "turns_said", stalled.session_id, 2)
    assert said.startswith("turns_said: skips turn.saved ")
    with pytest.raises(SystemExit, match="no event 99"):
        await skip_event(settings, "turns_said", stalled.session_id, 99)


async def test_an_event_is_skipped_before_the_live_view_comes_to_it(
    running: Running,
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """The loop knows older skips, and may have the event in its batch."""
    session = new_session("skips")
    filled = FilledLog(database)
    await filled.put([session.turn(1)])

    async def first() -> bool:
        return await running.turns() == [1]

    await eventually(first)
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("lock table turns_said in share mode")
        await filled.put([session.turn(2)])
        await filled.put([session.turn(3), session.turn(4)])
        settings = RebuildSettings(postgres_dsn=postgres_dsn)
        said = await skip_event(settings, "turns_said", session.session_id, 3)
    assert said.endswith(" from now on")

    async def all_others() -> bool:
        return await running.turns() == [1, 2, 4] and not await running.reason()

    await eventually(all_others)


async def test_a_view_goes_on_when_the_event_that_stalled_it_is_skipped_by_its_number(
    stalled: "SampleSession", running: Running, postgres_dsn: str, eventually: "Eventually"
) -> None:
    await skip_event(RebuildSettings(postgres_dsn=postgres_dsn), "turns_said", stalled.session_id, 2)

    async def all_others() -> bool:
        return await running.turns() == [1, 3, 11, 12] and not await running.reason()

    await eventually(all_others)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resume", "turns"), "turns is not stalled."),
        (("resume", "nothing"), "no view nothing; the views are sessions, turns"),
        (("resume", "turns", "--session", "ses_1"), "--session and --sequence go together"),
        (("run", "--only", "turns,nothing"), "no view nothing"),
        (("run", "--no-views", "--no-ingest"), "--no-views leaves ingest"),
        (("run", "--no-views", "--only", "turns"), "--no-views leaves ingest"),
        (("rebuild",), "name views or use --all"),
        (("rebuild", "--discard", "--all"), ""),
    ],
)
async def test_the_commands_say_what_is_wrong(
    arguments: tuple[str, ...], said: str, postgres_dsn: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.persistence", *arguments),
        env={"ANTIPHON_POSTGRES_DSN": postgres_dsn, "COLUMNS": "200"},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    assert said in " ".join((output + errors).decode().replace("│", " ").split())
