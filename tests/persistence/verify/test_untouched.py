"""A log that nobody has tampered with is verified without a difference, whatever happened to it."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from antiphon.chassis.bus import Outgoing
from antiphon.chassis.database import Database
from antiphon.persistence import migrations
from antiphon.persistence.ingest.validate import DeadLetter
from antiphon.persistence.verify.chain import start_of
from antiphon.persistence.verify.difference import render
from antiphon.persistence.verify.log_chain import verify_log
from antiphon.persistence.verify.log_rows import PAGE

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
        SampleSession,
    )
    from tests.persistence.verify.conftest import Committer, Verify

WAITS = "select true from pg_stat_activity where query like '%ingest_batch%' and wait_event_type = 'Lock'"


async def test_an_empty_log(verify: "Verify") -> None:
    report = await verify()

    assert (report.ok, report.events, len(report.heads)) == (True, 0, 16)
    assert {head.chain for head in report.heads} == {None}


async def test_the_heads_are_those_of_the_checkpoints(
    log: "Committer", verify: "Verify", calls: list["SampleSession"], database: Database
) -> None:
    report = await verify()

    head = report.heads[calls[0].partition]
    [row] = await database.pool.fetch("select * from checkpoints where position = 170")
    assert (report.ok, report.verified, report.uncovered, report.erased) == (True, 18, 0, 0)
    assert (head.position, head.events, head.chained_after) == (170, 12, 0)
    assert head.chain == row["chain"].hex()


async def test_duplicates_and_dead_letters(
    log: "Committer", verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, second, third = calls
    repeated = [first.turn(7), second.turn(7)]
    await log.commit([*repeated, *repeated, third.turn(7)])
    await log.commit(repeated)  # nothing of it is new
    partition, message = log.message(first.turn(8))
    letter = DeadLetter(message.incoming, "not an event")
    last = first.turn(9)
    await log.commit_messages([(partition, letter), log.message(last), log.message(last)])

    report = await verify()

    assert report.differences == []
    assert report.verified == 18 + 3 + 1


async def test_a_partition_with_nothing_but_dead_letters(
    committer: "Committer", verify: "Verify", calls: list["SampleSession"]
) -> None:
    partition, message = committer.message(calls[0].turn(1))
    await committer.commit_messages([(partition, DeadLetter(message.incoming, "not an event"))])

    report = await verify()

    assert report.differences == []
    assert report.heads[partition].chain == start_of(partition, 0).hex()


async def test_erased_sessions(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, second, third = calls
    assert await database.pool.fetchval("select erase_session($1)", first.session_id) == 6
    await log.commit([first.turn(7), second.turn(7)])
    after_one = await verify()
    assert await database.pool.fetchval("select erase_session($1)", first.session_id) == 1
    assert await database.pool.fetchval("select erase_session($1)", third.session_id) == 6
    await log.commit([third.turn(7), first.turn(8)])
    report = await verify()

    assert after_one.differences == report.differences == []
    assert (after_one.verified, after_one.erased) == (6 + 6 + 2, 6)
    assert (report.verified, report.erased) == (7 + 2, 13)
    columns = await database.pool.fetch(
        "select attname from pg_attribute where attrelid = 'erased_events'::regclass and attnum > 0"
    )
    assert {row["attname"] for row in columns} == {"partition", "position", "session_id", "sequence", "hash"}


async def test_a_log_that_grows_and_is_erased_while_it_is_read(
    log: "Committer", database: Database, calls: list["SampleSession"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.persistence.verify.log_rows.PAGE", 2)
    first, second, _ = calls
    verifying = asyncio.create_task(verify_log(database))
    for number in range(7, 30):
        await log.commit([first.turn(number), second.turn(number)])
        if number == 20:
            await database.pool.fetchval("select erase_session($1)", second.session_id)

    assert (await verifying).differences == []
    assert (await verify_log(database)).differences == []


async def test_pages_of_any_size(log: "Committer", verify: "Verify", monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAGE", 1), ("PAGE", 5), ("PAGE", PAGE), ("PAGE_BYTES", 1)):
        monkeypatch.setattr(f"antiphon.persistence.verify.log_rows.{name}", value)
        report = await verify()
        assert (report.differences, report.verified) == ([], 18)


async def test_the_time_of_commit_never_goes_back_within_a_partition(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, *_ = calls
    await database.pool.execute("update checkpoints set committed_at = '2100-01-01'")  # the clock was wrong
    await log.commit([first.turn(7)])

    rows = await database.pool.fetch("select committed_at from event_log order by position")
    assert rows[-1]["committed_at"].year == 2100
    assert (await verify()).differences == []


async def test_a_stopped_writer_and_its_successor(
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    verify: "Verify",
) -> None:
    """Two loops of one partition: one is fenced."""
    session = new_session("fenced")
    await publish(session.turn(number) for number in range(1, 200))
    await ingest.bus.publish(
        Outgoing(f"sessions.{session.partition}.default.{session.session_id}.turn", b"wrong", "")
    )
    ingest.start(session.partition)
    await event_log.until(1)
    ingest.start(session.partition)
    await event_log.until(199)
    await ingest.end()

    report = await verify()

    assert (report.differences, report.verified) == ([], 199)


@pytest.fixture
async def before(empty_dsn: str) -> Database:
    """A database from before there was a chain."""
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), "0007")
    return await Database.connect(empty_dsn, min_size=0, max_size=4)


async def test_events_from_before_the_chain(
    before: Database, empty_dsn: str, calls: list["SampleSession"], new_committer: "type[Committer]"
) -> None:
    first, second, third = calls
    committer = new_committer(before)
    await committer.commit([first.turn(1), second.turn(1), first.turn(2), third.turn(1)])
    await before.pool.fetchval("select erase_session($1)", second.session_id)
    await asyncio.to_thread(migrations.migrate, empty_dsn)
    upgraded = await verify_log(before)
    await committer.commit([first.turn(3), second.turn(2), first.turn(4)])
    continued = await verify_log(before)
    await before.pool.fetchval("select erase_session($1)", first.session_id)
    await committer.commit([first.turn(5), third.turn(2)])
    erased = await verify_log(before)
    await before.pool.execute("update event_log set version = 9 where sequence = 1")
    tampered = await verify_log(before)
    await before.close()

    assert [report.differences for report in (upgraded, continued, erased)] == [[], [], []]
    assert (upgraded.verified, upgraded.uncovered) == (0, 3)
    assert (continued.verified, continued.uncovered) == (3, 3)
    assert (erased.verified, erased.uncovered, erased.erased) == (3, 1, 2)
    assert {each.kind for each in tampered.differences} == {"column"}  # not covered, but compared
    assert "are from before the chain" in render(erased, heads=False)


async def test_a_call_of_the_version_before_that_runs_while_the_functions_are_replaced(
    before: Database,
    empty_dsn: str,
    calls: list["SampleSession"],
    new_committer: "type[Committer]",
    eventually: "Eventually",
) -> None:
    """It has begun with the old function: its events have no hash, and the chain begins after them."""
    first, second, _ = calls
    committer = new_committer(before)
    await committer.commit([first.turn(1)])
    revision = ScriptDirectory.from_config(migrations._config()).get_revision("0008").module
    for statement in revision.TABLES:
        await before.pool.execute(statement)
    functions = [*revision.CHAIN, *map(revision.read, revision.FUNCTIONS)]
    async with before.pool.acquire() as blocker:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("select from checkpoints for update")
        committing = asyncio.create_task(committer.commit([first.turn(2), second.turn(1)]))
        await eventually(lambda: before.pool.fetchval(WAITS))
        for statement in functions:
            await before.pool.execute(statement)
        await transaction.rollback()
    await committing
    await committer.commit([first.turn(3), second.turn(2)])
    await asyncio.to_thread(migrations.migrate, empty_dsn)

    report = await verify_log(before)
    await before.close()

    assert (report.differences, report.uncovered, report.verified) == ([], 3, 2)
    assert report.heads[first.partition].chained_after == 30
