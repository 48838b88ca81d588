"""Whatever is done to the log, verification finds it and names it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from antiphon.chassis.database import Database
from antiphon.persistence.ingest.validate import DeadLetter
from antiphon.persistence.verify import difference as difference_module
from antiphon.persistence.verify.difference import LogReport, render

if TYPE_CHECKING:
    from tests.persistence.conftest import SampleSession
    from tests.persistence.verify.conftest import Committer, Verify

# $first, $second and $third are ids of sessions; the first two are of one partition. The events of the first
# are at the positions 10, 40, 70, 100, 130 and 160, of the second 10 later, of the third 20 later.
ROW = "session_id = '$first' and sequence = 3"
COLUMNS = "tenant, event_id, type, version, occurred_at, envelope, committed_at"
EXCHANGE = """
alter table event_log drop constraint event_log_partition_position_key;
alter table event_log drop constraint event_log_pk;
alter table event_log drop constraint event_log_session_id_event_id_key;
{}
"""
DIGEST = """
event_digest(sequence, position, partition, version, occurred_at, committed_at, session_id, tenant, event_id,
             type, envelope)
"""
INSERT = """
insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                       occurred_at, envelope, committed_at, hash, chain)
select session_id, 7, partition, {position}, tenant, event_id || 'x', type, version, occurred_at,
       replace(envelope::text, event_id, event_id || 'x')::json, committed_at, {hash}, {chain}
  from event_log
 where session_id = '$first' and sequence = 6;
"""
CONTINUE = f"""
update event_log
   set hash = sha256((select hash from event_log where session_id = '$first' and sequence = 6) || {DIGEST})
 where session_id = '$first' and sequence = 7;
update event_log
   set chain = sha256((select chain from event_log as before
                        where before.partition = event_log.partition and before.position < event_log.position
                        order by position desc limit 1) || hash)
 where session_id = '$first' and sequence = 7;
"""

# name: (what is done, the differences as kind, sequence and field)
TAMPERING: dict[str, tuple[str, set[tuple[str, int | None, str | None]]]] = {
    "a body": (
        f"update event_log set envelope = replace(envelope::text, 'Gladly', 'Never')::json where {ROW}",
        {("hash", 3, "hash")},
    ),
    "the spaces of a body": (
        f"update event_log set envelope = (envelope::text || ' ')::json where {ROW}",
        {("hash", 3, "hash")},
    ),
    **{
        f"column {column}": (
            f"update event_log set {column} = {value} where {ROW}",
            {("hash", 3, "hash"), ("column", 3, column)},
        )
        for column, value in {
            "tenant": "'acme'",
            "event_id": "'another'",
            "type": "'turn.started'",
            "version": "9",
            "occurred_at": "now()",
        }.items()
    },
    "the time of commit": (
        f"update event_log set committed_at = committed_at - interval '1 us' where {ROW}",
        {("hash", 3, "hash")},
    ),
    "a hash": (
        f"update event_log set hash = sha256('') where {ROW}",
        {("hash", 3, "hash"), ("hash", 4, "hash"), ("chain", 3, "chain")},
    ),
    "a link of the partition": (
        f"update event_log set chain = sha256('') where {ROW}",
        {("chain", 3, "chain")},  # and the next event of the partition, of the second session
    ),
    "a missing hash": (
        f"update event_log set hash = null where {ROW}",
        {("uncovered", 3, "hash"), ("chain", 3, "chain"), ("hash", 4, "hash")},
    ),
    "an event in the middle deleted": (
        f"delete from event_log where {ROW}",
        {("sequence", 4, "sequence"), ("chain", 3, "chain")},
    ),
    "the first event deleted": (
        "delete from event_log where session_id = '$first' and sequence = 1",
        {("sequence", 2, "sequence"), ("chain", 1, "chain")},
    ),
    "the newest event of a session deleted": (
        "delete from event_log where session_id = '$first' and sequence = 6",
        {("chain", 6, "chain")},
    ),
    "the newest event of a partition deleted": (
        "delete from event_log where session_id = '$second' and sequence = 6",
        {("checkpoint", None, "chain")},
    ),
    "all events of a session deleted": (
        "delete from event_log where session_id = '$first'",
        {("chain", number, "chain") for number in range(1, 7)},
    ),
    "all events of a partition deleted": (
        "delete from event_log where session_id in ('$first', '$second')",
        {("checkpoint", None, "chain")},
    ),
    "the newest event deleted, disguised as erased": (
        (
            "insert into erased_events select partition, position, session_id, sequence, hash from event_log "
            "where session_id = '$first' and sequence = 6; "
            "delete from event_log where session_id = '$first' and sequence = 6"
        ),
        {("erased", 6, "last_sequence")},
    ),
    "the newest event deleted, and its session marked as erased": (
        (
            "insert into erased_events select partition, position, session_id, sequence, hash from event_log "
            "where session_id = '$first' and sequence = 6; "
            "insert into erased_sessions values ('$first', 'default', 6, now(), null); "
            "delete from event_log where session_id = '$first' and sequence = 6"
        ),
        {("erased", number, None) for number in range(1, 6)},
    ),
    "two sequences exchanged": (
        EXCHANGE.format(
            "update event_log set sequence = 7 - sequence where session_id = '$first' and sequence in (3, 4)"
        ),
        {("order", 4, "position"), ("hash", 3, "hash"), ("hash", 4, "hash"), ("hash", 5, "hash")},
    ),
    "two positions exchanged": (
        EXCHANGE.format("update event_log set position = 170 - position where position in (70, 100)"),
        {
            ("order", 4, "position"),
            ("hash", 3, "hash"),
            ("hash", 4, "hash"),
            ("chain", 3, "chain"),
            ("chain", 4, "chain"),
        },
    ),
    "events of two sessions exchanged": (
        EXCHANGE.format(
            "update event_log set session_id = case position when 80 then '$first' else '$second' end "
            "where position in (70, 80)"
        ),
        {("hash", 3, "hash"), ("hash", 4, "hash"), ("column", 3, "session_id")},
    ),
    "bodies of two sessions exchanged": (
        (
            "update event_log set envelope = other.envelope from event_log as other "
            "where event_log.sequence = 3 and other.sequence = 3 and event_log.partition = other.partition "
            "and event_log.session_id <> other.session_id"
        ),
        {("hash", 3, "hash"), ("column", 3, "session_id"), ("column", 3, "event_id")},
    ),
    "an event inserted with made-up hashes": (
        INSERT.format(position=165, hash="sha256('a')", chain="sha256('b')"),
        {("hash", 7, "hash"), ("chain", 7, "chain"), ("chain", 6, "chain")},
    ),
    "an event inserted without hashes": (
        INSERT.format(position=165, hash="null", chain="null"),
        {("uncovered", 7, "hash"), ("chain", 7, "chain"), ("chain", 6, "chain")},
    ),
    "an event inserted whose hashes continue both chains": (
        INSERT.format(position=165, hash="null", chain="null") + CONTINUE,
        {("chain", 6, "chain")},
    ),
    "an event inserted after the end, whose hashes continue both chains": (
        INSERT.format(position=175, hash="null", chain="null") + CONTINUE,
        {("checkpoint", 7, None)},
    ),
    "a partition changed": (
        f"update event_log set partition = (select partition from event_log where position = 30) where {ROW}",
        {("column", 3, "partition"), ("hash", 3, "hash"), ("chain", 3, "chain")},
    ),
    "a partition changed to one without events": (
        f"update event_log set partition = partition - 1 where {ROW}",
        {("checkpoint", 3, None), ("chain", 3, "chain")},
    ),
    "a partition that does not exist": (
        f"update event_log set partition = 16 where {ROW}",
        {("checkpoint", 3, None), ("chain", 3, "chain")},
    ),
    "the chain of a checkpoint": (
        "update checkpoints set chain = sha256('') where chain is not null",
        {("checkpoint", None, "chain")},
    ),
    "the count of a checkpoint": (
        "update checkpoints set chained = chained + 1 where chain is not null",
        {("checkpoint", None, "chained")},
    ),
    "the beginning of a chain": (
        "update checkpoints set chained_after = 15",
        {("uncovered", 1, None), ("chain", 1, "chain")},
    ),
    "the chains of checkpoints removed": (
        "update checkpoints set chain = null, chained_after = null, chained = 0",
        {("uncovered", number, None) for number in range(1, 7)},
    ),
    "the checkpoints deleted": (
        "delete from checkpoints",
        {("checkpoint", number, None) for number in range(1, 7)},
    ),
}


def found(report: LogReport) -> set[tuple[str, int | None, str | None]]:
    return {(each.kind, each.sequence, each.field) for each in report.differences}


def filled(statement: str, calls: list["SampleSession"]) -> str:
    for name, session in zip(("$first", "$second", "$third"), calls, strict=True):
        statement = statement.replace(name, session.session_id)
    return statement


@pytest.mark.parametrize("name", TAMPERING)
async def test_it_is_found_and_named(
    name: str, log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    statement, expected = TAMPERING[name]
    assert (await verify()).ok
    await database.pool.execute(filled(statement, calls))

    report = await verify()

    assert not report.ok
    assert found(report) == expected


async def test_an_event_inserted_after_the_last_is_named(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    """The checkpoint is further than the last event: after it came a dead letter."""
    first, *_ = calls
    partition, message = log.message(first.turn(7))
    await log.commit_messages([(partition, DeadLetter(message.incoming, "not an event"))])
    assert (await verify()).ok
    inserted = INSERT.format(position=175, hash="null", chain="null") + CONTINUE
    await database.pool.execute(filled(inserted, calls))

    report = await verify()

    assert found(report) == {("chain", 7, None)}
    [difference] = report.differences
    assert (difference.session_id, difference.position) == (first.session_id, 175)
    assert "it was inserted: the chain of its partition ends at position 170" in str(difference)


async def test_what_was_expected_and_found_is_said(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, *_ = calls
    await database.pool.execute(filled(f"update event_log set tenant = 'acme' where {ROW}", calls))

    report = await verify()

    texts = [str(difference) for difference in report.differences]
    place = f"session {first.session_id}, sequence 3 (partition {first.partition}, position 70)"
    assert texts[1] == (
        f"{place}: a column does not agree with the envelope\n    tenant: expected default, found acme"
    )
    assert texts[0].startswith(f"{place}: the event, its hash,")


async def test_the_number_of_missing_events_at_the_end_is_said(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    await database.pool.execute(
        filled("delete from event_log where session_id in ('$first', '$second') and sequence = 6", calls)
    )

    [difference] = (await verify()).differences

    assert difference.text.endswith("missing: 2 of 12 events, after position 140")


async def test_who_writes_the_checkpoint_too_is_found_by_a_head_that_was_kept_elsewhere(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, second, _ = calls
    heads = {head.partition: head for head in (await verify()).heads}
    await log.commit([first.turn(7)])
    assert (await verify(anchors=heads)).ok
    hidden = """
    delete from event_log where session_id in ('$first', '$second') and position >= 170;
    update checkpoints set chained = chained - 2, chain = (select chain from event_log where position = 160)
     where name = 'ingest:' || (select partition from event_log where session_id = '$first' limit 1)
    """
    await database.pool.execute(filled(hidden, calls))

    assert (await verify()).ok
    [difference] = (await verify(anchors=heads)).differences

    assert (difference.kind, difference.partition, difference.position) == ("anchor", second.partition, 170)


async def test_a_log_that_is_shorter_than_its_head_elsewhere_is_named(
    log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    """As a backup that was restored is."""
    before = {head.partition: head for head in (await verify()).heads}
    [later] = [head for head in before.values() if head.position == 170]

    report = await verify(anchors={later.partition: structs.replace(later, position=999)})

    assert ["ends at position 170, before the head" in each.text for each in report.differences] == [True]


async def test_of_many_differences_the_first_are_kept_and_all_are_counted(
    log: "Committer", database: Database, verify: "Verify", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference_module, "LISTED", 4)
    await database.pool.execute("update event_log set hash = sha256('')")

    report = await verify()

    assert len(report.differences) == 4
    assert report.difference_count > 18
    assert "differences, the first 4 listed." in render(report, heads=False)


@pytest.mark.parametrize("option", ["since", "tenant"])
async def test_part_of_the_log_is_verified_alone(
    option: str, log: "Committer", database: Database, verify: "Verify", calls: list["SampleSession"]
) -> None:
    first, *_ = calls
    since = await database.pool.fetchval("select committed_at from event_log where position = 100")
    options = {"since": since} if option == "since" else {"tenant": "default"}
    early = filled("update event_log set version = 9 where session_id = '$first' and sequence = 1", calls)
    late = filled("update event_log set version = 9 where session_id = '$first' and sequence = 5", calls)

    clean = await verify(**options)
    await database.pool.execute(early)
    after_early = await verify(**options)
    await database.pool.execute(late)
    after_late = await verify(**options)

    assert (clean.ok, clean.verified) == ((True, 9) if option == "since" else (True, 18))
    assert after_early.ok is (option == "since")
    assert ("column", 5, "version") in found(after_late)
    assert all(each.session_id == first.session_id for each in after_late.differences)


async def test_since_the_future_nothing_is_read(log: "Committer", verify: "Verify") -> None:
    report = await verify(since=datetime.now(UTC) + timedelta(days=1))

    assert (report.ok, report.events) == (True, 0)
