"""Test sessions end some days after their trial: in the log, and in every view; others never do."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from antiphon.chassis.audit import Audit
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.database import Database
from antiphon.contracts.audit import ActKind, decode_outcome, decode_record
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.streams import AUDIT
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.retention import AT_ONCE, erase_expired, erase_late, keep_erasing
from antiphon.persistence.settings import PersistenceSettings
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, Replicas, SampleSession
    from tests.persistence.projections.conftest import View

WEEK = timedelta(days=7)
OF_SESSIONS = [
    table.name for projection in PROJECTIONS for table in projection.tables if "session_id" in table.columns
]


@pytest.fixture
def audit(bus: Bus) -> Audit:
    return Audit(bus)


def call(session: "SampleSession", *, test: bool, metadata: dict[str, Any] | None = None) -> list[Envelope]:
    requested = SessionRequested(
        flow_id="booking", flow_revision=1, user_id="u", room="r", test=test, metadata=metadata or {}
    )
    return [session.seal(requested), *session.whole_call()[1:]]


async def sessions_in(database: Database, table: str) -> set[str]:
    return {row[0] for row in await database.pool.fetch(f"select distinct session_id from {table}")}


async def test_a_test_session_is_erased_everywhere_and_the_chain_stays_whole(
    bus: Bus,
    database: Database,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    eventually: "Eventually",
    new_session: "NewSession",
) -> None:
    """In a real process: the calls are long over, so that both are expired if anything is."""
    real, tried = new_session("real"), new_session("tried")
    tools = [
        ToolStarted(call_id="c", name="book_table", arguments="{}"),
        ToolCompleted(call_id="c", name="book_table", status="done"),
    ]
    calls = [
        [*(one := call(session, test=test))[:-1], *map(session.seal, tools), one[-1]]
        for session, test in ((real, False), (tried, True))
    ]
    keeps = replica(ANTIPHON_TEST_SESSION_DAYS="0")
    await keeps.start()
    await publish(envelope for events in calls for envelope in events)
    total = sum(map(len, calls))
    await event_log.until(total)

    async def in_views() -> bool:
        return all([len(await sessions_in(database, table)) == 2 for table in ("sessions", "turns", "tools")])

    await eventually(in_views)
    assert await keeps.end() == 0
    before = {table: await sessions_in(database, table) for table in OF_SESSIONS}

    erases = replica(ANTIPHON_TEST_SESSION_DAYS="0.0001")
    await erases.start()

    async def erased() -> bool:
        return tried.session_id not in await sessions_in(database, "sessions")

    await eventually(erased)
    await erases.until_ready()
    assert await event_log.count() == len(calls[0])
    for table in OF_SESSIONS:
        assert await sessions_in(database, table) == before[table] - {tried.session_id}, table
    assert {tried.session_id} < before["turns"]
    report = await verify_log(database)
    assert (report.differences, report.erased) == ([], len(calls[1]))
    assert tried.session_id in erases.log.read_text()

    # what comes later is erased too: its request is gone, so nothing else tells that it was a test
    late = [real.seal(tools[0]), tried.seal(tools[0]), tried.seal(tools[1])]
    await publish(late)

    async def read() -> bool:
        return len(await sequences(database, real.session_id)) == len(calls[0]) + 1

    await eventually(read)

    async def erased_again() -> bool:
        kept = [await sessions_in(database, table) for table in ("event_log", *OF_SESSIONS)]
        gone = not any(tried.session_id in found for found in kept)
        return gone and (await verify_log(database)).erased == len(calls[1]) + 2

    await eventually(erased_again)
    assert await erases.end() == 0
    report = await verify_log(database)
    assert (report.differences, report.erased) == ([], len(calls[1]) + 2)


async def sequences(database: Database, session_id: str) -> list[int]:
    rows = await database.pool.fetch("select sequence from event_log where session_id = $1", session_id)
    return [row[0] for row in rows]


async def test_a_session_that_is_requested_again_is_kept(
    database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    """An Idempotency-Key is free again after an erasure, and names the same session."""
    again, late = new_session("again"), new_session("late")
    await given(view, [call(again, test=False)[0]], [late.whole_call()[-1]])
    await database.pool.execute(
        "insert into erased_sessions (session_id, tenant, last_sequence) select id, 'default', 0 "
        "from unnest($1::text[]) as named (id)",
        [again.session_id, late.session_id],
    )
    for session in (again, late):
        kind = "session.requested" if session is again else "session.closed"
        await logged(database, session.session_id, kind)

    assert await erase_late(database, audit, WEEK) == 1

    assert await left(database) == {again.session_id}
    assert await sessions_in(database, "event_log") == {again.session_id}


async def logged(database: Database, session_id: str, kind: str) -> None:
    await database.pool.execute(
        "insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version, "
        "occurred_at, envelope, committed_at) "
        "select $1, 1, 0, 1 + count(*), 'default', $1, $2, 1, now(), '{}', "
        "now() - interval '1 day' from event_log",
        session_id,
        kind,
    )


async def given(view: "View", *calls: Sequence[Envelope]) -> None:
    for events in calls:
        await view(SESSIONS).given(events)


async def left(database: Database) -> set[str]:
    return await sessions_in(database, "sessions")


async def test_only_tests_that_are_old_enough_are_erased(
    database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    real, old, never_ended, recent = (new_session(name) for name in ("real", "old", "never", "recent"))
    closed = SessionClosed(
        reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=1.0, turns=0
    )
    await given(
        view,
        # what a client writes into the metadata makes no session a test
        call(real, test=False, metadata={"test": True, "details": "test"}),
        call(old, test=True),
        call(never_ended, test=True)[:-1],
        [*call(recent, test=True)[:-1], replace(recent.seal(closed), time=await just_now(database))],
    )

    assert await erase_expired(database, audit, timedelta(days=365_000)) == 0
    assert len(await left(database)) == 4
    assert await erase_expired(database, audit, WEEK) == 2
    assert await left(database) == {real.session_id, recent.session_id}


async def just_now(database: Database) -> Any:
    return await database.pool.fetchval("select now()")


async def test_nothing_is_erased_while_a_view_is_built(
    database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    """The build may have read the events already: its swap would bring the rows back."""
    await given(view, call(new_session("tried"), test=True))
    await database.pool.execute("create schema rebuild_turns")
    assert await erase_expired(database, audit, WEEK) == 0
    assert len(await left(database)) == 1

    await database.pool.execute("drop schema rebuild_turns")
    assert await erase_expired(database, audit, WEEK) == 1
    assert await left(database) == set()


async def test_without_views_there_is_nothing_to_do(database: Database, audit: Audit) -> None:
    await database.pool.execute("drop table sessions")
    assert await erase_expired(database, audit, WEEK) == 0


async def test_replicas_erase_each_session_once(
    database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    await given(view, *(call(new_session(f"tried {number}"), test=True) for number in range(3)))
    async with database.transaction() as other:  # another replica is at one of them
        await other.fetch("select from sessions limit 1 for update")
        assert await erase_expired(database, audit, WEEK) == 2
    assert await erase_expired(database, audit, WEEK) == 1


async def test_one_look_is_bounded(
    database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    calls = (call(new_session(f"tried {number}"), test=True)[:1] for number in range(AT_ONCE + 1))
    await given(view, [envelope for events in calls for envelope in events])
    assert await erase_expired(database, audit, WEEK) == AT_ONCE
    assert await erase_expired(database, audit, WEEK) == 1


async def test_an_erasure_is_on_record_and_without_a_record_there_is_none(
    bus: Bus, database: Database, audit: Audit, view: "View", new_session: "NewSession"
) -> None:
    tried = new_session("tried")
    await given(view, call(tried, test=True))
    await bus.connection.api("STREAM.DELETE.KV_audit")
    with pytest.raises(BusUnavailable):
        await erase_expired(database, audit, WEEK)
    assert await left(database) == {tried.session_id}

    await bus.ensure_buckets()
    assert await erase_expired(database, audit, WEEK) == 1
    [(_, stored), (_, outcome)] = [entry async for entry in (await bus.bucket(AUDIT.name)).entries()]
    act = decode_record(stored).act
    assert (act.kind, act.tenant, act.target) == (ActKind.SESSION_ERASE, tried.tenant, tried.session_id)
    assert act.actor.name == "service:persistence"
    assert decode_outcome(outcome).result == "done"


async def test_an_erasure_that_fails_again_and_again_has_one_record(
    bus: Bus,
    database: Database,
    audit: Audit,
    view: "View",
    eventually: "Eventually",
    new_session: "NewSession",
) -> None:
    """The loop tries every second or two: the bucket was full after some days, and every act refused."""
    tried = new_session("tried")
    await given(view, call(tried, test=True))
    await database.pool.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not here'; end $$"
    )
    await database.pool.execute(
        "create trigger refuse before delete on sessions for each row execute function refuse()"
    )
    erasing = BackgroundTask(
        partial(keep_erasing, database, audit, WEEK.days, asyncio.Event(), {}), name="erasing"
    )

    async def stored() -> list[str]:
        return [key async for key, _ in (await bus.bucket(AUDIT.name)).entries()]

    async def tried_again() -> bool:
        return erasing.failures >= 4

    async def ended() -> bool:
        return len(await stored()) == 2

    try:
        await eventually(tried_again)
        [record] = await stored()
        await database.pool.execute("drop trigger refuse on sessions")
        await eventually(ended)
        assert await stored() == [record, f"{record}.outcome"]
        assert await left(database) == set()
    finally:
        await erasing.close()


def test_the_default_is_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_TEST_SESSION_DAYS", raising=False)
    field = PersistenceSettings.model_fields["test_session_days"]
    assert timedelta(days=field.default) == WEEK
