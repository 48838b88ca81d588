"""Which code may replace a view, or go on with a build; and one view that fails holds up no other."""

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Integer, MetaData, Table

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.cli import app
from antiphon.persistence.errors import NotReady
from antiphon.persistence.projection import Name, Projection, Rows, ViewTable, required
from antiphon.persistence.projection.declaration import EventFailed
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.readiness import ReadinessCheck
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.build import build, locked
from antiphon.persistence.rebuild.swap import NewerVersion
from antiphon.persistence.rebuild.upgrade import build_missing, live_version

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import Eventually, NewSession


def last_turns(name: str, version: int = 1, fails: str | None = None) -> Projection:
    """Return a view with the last turn of each session, which cannot fold what has a text."""
    table = ViewTable(
        Table(
            name,
            MetaData(),
            required("session_id", Name, primary_key=True),
            required("turn", Integer, default=0),
        )
    )
    projection = Projection(name, table, version=version)

    @projection.on(TurnSaved)
    def said(event: TurnSaved, envelope: Envelope, rows: Rows) -> None:
        if fails is not None and event.user_text == fails:
            raise RuntimeError("it cannot be folded")
        rows(table, envelope.subject)["turn"] = event.turn

    return projection


def test_a_newer_version_of_an_event_is_one_of_its_views(monkeypatch: pytest.MonkeyPatch) -> None:
    before = last_turns("said", version=2).version, TIMELINE.version
    monkeypatch.setattr(TurnSaved, "VERSION", 3)

    assert (last_turns("said", version=2).version, TIMELINE.version) == (before[0] + 2, before[1] + 2)


async def test_older_code_replaces_a_newer_view_only_when_it_is_told_to(
    filled: "FilledLog", database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    old, new = last_turns("downgraded"), last_turns("downgraded", version=2)
    await filled.put(new_session("a").whole_call())
    await build(postgres_dsn, database, new)
    folded = 0

    def on_progress(events: int, _: float) -> None:
        nonlocal folded
        folded += events

    with pytest.raises(NewerVersion, match=r"live in version 2, and this code has version 1.*--downgrade"):
        await build(postgres_dsn, database, old, on_progress=on_progress)
    assert folded == 0
    assert await live_version(database, old) == 2

    await build(postgres_dsn, database, old, downgrade=True)
    assert await live_version(database, old) == 1


async def test_a_newer_view_that_comes_during_a_build_is_not_replaced(
    filled: "FilledLog",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, index = last_turns("overtaken"), shadow.index
    await filled.put(new_session("a").whole_call())

    async def meanwhile(*arguments: Any) -> None:
        await database.pool.execute(
            "insert into projections (name, version, tables) values ('overtaken', 2, '{}')"
        )
        await index(*arguments)

    monkeypatch.setattr(shadow, "index", meanwhile)
    readiness = ReadinessCheck()
    await asyncio.wait_for(build_missing(postgres_dsn, database, [old], readiness, asyncio.Event()), 60)

    assert await live_version(database, old) == 2
    assert await readiness.check() == ""


async def test_a_view_that_cannot_be_built_holds_up_no_other(
    filled: "FilledLog",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("a")
    await filled.put([session.requested(), session.turn(1, "poison"), session.turn(2)])
    broken = [last_turns(f"broken_{n}", fails="poison") for n in range(3)]
    whole = [last_turns(f"whole_{n}") for n in range(2)]
    readiness, stop = ReadinessCheck(), asyncio.Event()
    building = asyncio.create_task(build_missing(postgres_dsn, database, [*broken, *whole], readiness, stop))

    async def others_are_there() -> bool:
        return all([await live_version(database, view) == 1 for view in whole])

    async def broken_are_named() -> bool:
        try:
            await readiness.check()
        except NotReady as error:
            reasons = str(error)
            return all(f"view {view.name}" in reasons for view in broken) and "whole" not in reasons
        return False

    await eventually(others_are_there)
    await eventually(broken_are_named)
    assert not building.done()
    stop.set()
    await asyncio.wait_for(building, 60)


async def test_a_build_of_corrected_code_starts_from_nothing(
    filled: "FilledLog",
    database: Database,
    postgres_dsn: str,
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = new_session("a")
    await filled.put([session.requested(), session.turn(1), session.turn(2, "poison")])
    broken, corrected = last_turns("corrected", fails="poison"), last_turns("corrected")
    with pytest.raises(EventFailed):
        await build(postgres_dsn, database, broken)
    async with locked(postgres_dsn, "corrected") as connection:
        await connection.execute("insert into rebuild_corrected.corrected values ('left', 1)")
    assert shadow.fingerprint(broken) == shadow.fingerprint(corrected)  # another module was corrected

    monkeypatch.setattr(shadow, "_sources", lambda: "of another release")
    await build(postgres_dsn, database, corrected)

    assert await database.pool.fetchval("select count(*) from corrected") == 1


def test_a_fingerprint_covers_what_the_functions_call(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = shadow.PACKAGES
    names = [path for package in packages for path, _ in shadow._walk(files(package), package)]
    before = shadow.fingerprint(TURNS)

    assert "antiphon.persistence/projections/turns.py" in names
    assert "antiphon.contracts/events/turn.py" in names
    assert shadow.fingerprint(TURNS) == before

    walk = shadow._walk
    monkeypatch.setattr(shadow, "_walk", lambda *place: [(p, s + b"#") for p, s in walk(*place)])
    shadow._sources.cache_clear()
    try:
        assert shadow.fingerprint(TURNS) != before
    finally:
        shadow._sources.cache_clear()


def test_the_command_has_the_option() -> None:
    from typer.testing import CliRunner

    assert "--downgrade" in CliRunner().invoke(app, ["rebuild", "--help"], env={"COLUMNS": "200"}).output
