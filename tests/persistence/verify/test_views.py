"""Verification names each difference between a view and the fold of the log, and nothing else."""

import asyncio
import json
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.fixtures.filled_log import FilledLog
from typer import Exit

from antiphon.chassis.database import Database
from antiphon.chassis.settings import PostgresSettings
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.locks import lease_name, projection_group
from antiphon.persistence.projection import Projection
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.verify.view_rows import Fold
from antiphon.persistence.verify.views import Difference, OtherVersion, verify_view
from antiphon.persistence.verify.views_command import verify_views_command

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession

MORE = (
    ParticipantConnected(identity="caller", sid="PA_1", kind="STANDARD"),
    ToolStarted(call_id="c1", name="find_table", arguments="{}"),
)


@pytest.fixture
async def calls(database: Database, postgres_dsn: str, new_session: "NewSession") -> "list[SampleSession]":
    """The sessions of a log, of which all views are built."""
    sessions = [new_session(f"call {number}") for number in range(30)]
    filled = FilledLog(database)
    await filled.put(
        event for session in sessions for event in (*session.whole_call(), *map(session.seal, MORE))
    )
    for projection in PROJECTIONS:
        await build(postgres_dsn, database, projection)
    return sessions


async def differences(database: Database, projection: Projection) -> Sequence[Difference]:
    return (await verify_view(database, projection)).differences


async def test_views_that_nobody_changed_have_no_difference(
    calls: "list[SampleSession]", database: Database
) -> None:
    for projection in PROJECTIONS:
        report = await verify_view(database, projection)
        assert report.differences == [], projection.name
        assert report.events > 0, projection.name
        assert report.rows > 0, projection.name


async def test_a_changed_field_is_named(calls: "list[SampleSession]", database: Database) -> None:
    changed = calls[7].session_id
    await database.pool.execute(
        "update turns set user_text = 'no' where session_id = $1 and turn = 2", changed
    )

    [found] = await differences(database, TURNS)
    assert found == Difference(
        "turns", changed, "turns, epoch , turn 2", "user_text", "'a table for two'", "'no'"
    )
    assert str(found) == (
        f"turns session {changed} (turns, epoch , turn 2) user_text: expected 'a table for two', found 'no'"
    )


async def test_each_changed_field_of_a_document_is_named(
    calls: "list[SampleSession]", database: Database
) -> None:
    changed = calls[3].session_id
    await database.pool.execute(
        "update sessions set usage = '[{\"PA\": 1}]', turns = 9 where session_id = $1", changed
    )

    found = await differences(database, SESSIONS)
    assert {(each.session, each.field, each.expected, each.found) for each in found} == {
        (changed, "turns", "3", "9"),
        (changed, "usage", "None", "[{'PA': 1}]"),
    }


async def test_missing_rows_and_rows_too_many_are_named(
    calls: "list[SampleSession]", database: Database
) -> None:
    missing, more = calls[0].session_id, calls[1].session_id
    await database.pool.execute("delete from turns where session_id = $1 and turn = 1", missing)
    await database.pool.execute(
        "update turns set turn = 77 where session_id = $1 and turn = 3",
        more,
    )
    await database.pool.execute("update turns set session_id = 'ses_nobody' where session_id = $1", more)

    found = {(each.session, each.row, each.found) for each in await differences(database, TURNS)}
    assert found == {
        (missing, "turns, epoch , turn 1", None),
        *((more, f"turns, epoch , turn {number}", None) for number in (1, 2, 3)),
        ("ses_nobody", "turns", "rows of no session"),
    }


async def test_a_view_that_is_behind_is_compared_with_the_log_up_to_its_checkpoint(
    calls: "list[SampleSession]", database: Database, new_session: "NewSession"
) -> None:
    await FilledLog(database).put(new_session("later").whole_call())

    assert await differences(database, TURNS) == []


async def test_a_part_is_verified(calls: "list[SampleSession]", database: Database) -> None:
    await database.pool.execute("update turns set user_text = 'no'")
    sampled = await verify_view(database, TURNS, sample=5)
    assert 1 <= sampled.sessions <= 5
    assert sampled.difference_count == 3 * sampled.sessions

    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await verify_view(database, TURNS, since=later)).difference_count == 0
    earlier = datetime.now(UTC) - timedelta(hours=1)
    assert (await verify_view(database, TURNS, since=earlier)).difference_count == 90


async def test_sessions_of_several_pages(
    calls: "list[SampleSession]", database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.persistence.verify import views

    monkeypatch.setattr(views, "PAGE", 7)
    monkeypatch.setattr(views, "CHUNK", 4)
    for projection in PROJECTIONS:
        assert await differences(database, projection) == []


async def test_events_that_were_skipped_are_left_out(
    calls: "list[SampleSession]", database: Database, postgres_dsn: str
) -> None:
    from antiphon.persistence.resume import skip_event
    from antiphon.persistence.settings import RebuildSettings

    await skip_event(RebuildSettings(postgres_dsn=postgres_dsn), "turns", calls[0].session_id, 5)
    [found] = await differences(database, TURNS)
    assert (found.row, found.expected) == ("turns, epoch , turn 1", None)

    await build(postgres_dsn, database, TURNS)
    assert await differences(database, TURNS) == []


async def test_verification_runs_beside_writers(
    database: Database, postgres_dsn: str, new_session: "NewSession", calls: "list[SampleSession]"
) -> None:
    filled = FilledLog(database)

    async def write() -> None:
        for number in range(20):
            events: list[Envelope] = new_session(f"beside {number}").whole_call()
            await filled.put(events)

    writing = asyncio.create_task(write())
    while not writing.done():
        assert await differences(database, SESSIONS) == []
    await writing


async def test_sessions_are_compared_and_forgotten_after_a_number_of_events(
    calls: "list[SampleSession]", database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.persistence.verify import views

    folds: list[Fold] = []

    class Counted(Fold):
        def __init__(self, projection: Projection) -> None:
            super().__init__(projection)
            folds.append(self)

    monkeypatch.setattr(views, "PAGE", 5)
    monkeypatch.setattr(views, "COMPARED", 8)
    monkeypatch.setattr(views, "Fold", Counted)
    missing = calls[11].session_id
    await database.pool.execute("delete from turns where session_id = $1 and turn = 2", missing)

    report = await verify_view(database, TURNS)

    assert [(each.session, each.row) for each in report.differences] == [(missing, "turns, epoch , turn 2")]
    assert (report.sessions, report.events, report.rows) == (30, 90, 90)
    assert max(fold.events for fold in folds) <= 8 + 5
    assert len(folds) > 5


async def test_a_long_session_needs_space_for_one_copy_of_its_rows(
    database: Database, postgres_dsn: str, new_session: "NewSession"
) -> None:
    session = new_session("long")
    text, turns = "word " * 400, 4_000
    await FilledLog(database).put(session.turn(number, text) for number in range(1, turns + 1))
    await build(postgres_dsn, database, TURNS)
    tracemalloc.start()
    try:
        report = await verify_view(database, TURNS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (report.rows, report.differences) == (turns, [])
    assert most < turns * 3 * len(text) + (4 << 20)


async def test_a_view_that_other_code_has_built_is_not_compared(
    calls: "list[SampleSession]", database: Database, postgres_dsn: str
) -> None:
    await database.pool.execute("update projections set version = 99 where name = 'turns'")
    settings = PostgresSettings(postgres_dsn=postgres_dsn)

    with pytest.raises(OtherVersion, match="the live view turns has version 99 and this code"):
        await verify_view(database, TURNS)
    with pytest.raises(OtherVersion):
        await verify_view(database, TURNS, sample=3)

    await database.pool.execute("delete from projections where name = 'turns'")
    with pytest.raises(OtherVersion, match="`persistence rebuild turns` builds it"):
        await verify_view(database, TURNS)
    with pytest.raises(Exit) as exited:
        await asyncio.to_thread(
            verify_views_command, settings, [TURNS], since=None, sample=None, as_json=False
        )
    assert exited.value.exit_code == 3


async def test_a_sample_has_each_session_once_and_says_of_how_many(
    calls: "list[SampleSession]", database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.persistence.verify import views

    monkeypatch.setattr(views, "CHOSEN_FROM", 7)
    for asked, compared in ((30, 30), (1_000, 30), (29, 29), (1, 1)):
        report = await verify_view(database, SESSIONS, sample=asked)

        assert (report.sessions, report.rows, report.of_sessions) == (compared, compared, 30)
        assert report.differences == []

    none = await verify_view(database, SESSIONS, sample=5, since=datetime.now(UTC) + timedelta(days=1))
    assert (none.sessions, none.of_sessions) == (0, 0)


async def test_what_is_not_compared_and_who_updates_the_view_is_printed(
    calls: "list[SampleSession]",
    database: Database,
    postgres_dsn: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = PostgresSettings(postgres_dsn=postgres_dsn)

    async def verify(*projections: Projection, **options: Any) -> tuple[str, str]:
        chosen = {"since": None, "sample": None, "as_json": False, **options}
        with pytest.raises(Exit):
            await asyncio.to_thread(verify_views_command, settings, projections, **chosen)
        return capsys.readouterr()

    nobody = f"no running process keeps version {TURNS.version} up to date"
    restart = "start or restart `run` with this code"
    out, err = await verify(SESSIONS, TURNS)
    assert err == ""
    assert out.splitlines()[2:] == [
        "turns: 90 rows of 90 events, no difference",
        f"turns: {nobody}: {restart}",
    ]

    partition = calls[0].partition
    await database.pool.execute(
        "update projection_checkpoints set position = position - 1, stalled = '{}'"
        " where projection = 'turns' and partition = $1",
        partition,
    )
    await database.pool.execute(
        "update turns set user_text = 'no' where session_id = $1", calls[1].session_id
    )
    async with database.pool.acquire() as connection:
        for number in range(1, PARTITIONS):
            name = lease_name(projection_group("turns", TURNS.version), number)
            await connection.execute("select pg_advisory_lock(hashtextextended($1, 0))", name)
        out, _ = await verify(TURNS, sample=1_000)
        [document] = json.loads((await verify(TURNS, as_json=True))[0])
        await connection.execute("select pg_advisory_unlock_all()")
    assert out.splitlines()[-4:] == [
        "turns: 30 of 30 sessions, 90 rows of 90 events, 3 differences",
        "turns: 1 event not folded yet (not compared)",
        f"turns: stalled in partition {partition}: `status` says at which event",
        f"turns: {nobody} in partitions 0: {restart}",
    ]
    assert (document["difference_count"], document["lag"]["events"]) == (3, 1)
    assert (document["stalled"], document["unheld"]) == ([partition], [0])

    await database.pool.execute("update turns set user_text = 'a table for two' where turn > 1")
    out, _ = await verify(TURNS)
    assert "rows of 90 events, 1 difference\n" in out


async def test_each_session_may_be_in_a_sample(calls: "list[SampleSession]", database: Database) -> None:
    await database.pool.execute("update sessions set turns = 9")
    found: set[str | None] = set()
    while len(found) < len(calls):
        report = await verify_view(database, SESSIONS, sample=10)
        assert report.difference_count == 10
        found |= {each.session for each in report.differences}
