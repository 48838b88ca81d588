"""A partition that only finds dead letters stops, unless a client can cause them; a restart goes on."""

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import encode
from antiphon.persistence.ingest import validate as validation
from antiphon.persistence.ingest.partition import IngestOptions

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, RunningIngest

CHECK = "alter table event_log add constraint oops check (tenant <> 'default') not valid"
TRIGGER = """
create function boom() returns trigger language plpgsql as $$ begin perform 1/0; return new; end $$;
create trigger boom before insert on event_log for each row execute function boom()
"""
AT_COMMIT = """
create function boom() returns trigger language plpgsql as $$ begin perform 1/0; return new; end $$;
create constraint trigger boom after insert on event_log deferrable initially deferred
    for each row execute function boom()
"""


async def test_a_restart_continues_after_the_dead_letters_that_stopped_the_partition(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """The count starts again: each restart of a partition that goes on failing costs one more run of them."""
    session = new_session("stopped twice")
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    ingest.options = IngestOptions(dead_letters_in_a_row=5)
    for number in range(8):
        await bus.publish(Outgoing(subject, b"wrong", f"raw {number}"))
    await publish([session.requested()])
    ingest.start(session.partition)
    await eventually(lambda: ingest.is_unready_because("stopped"))
    await ingest.end()

    ingest.restart(session.partition)
    await event_log.until(1)

    await ingest.until_ready()
    assert len(await event_log.dead_letters()) == 8


async def test_dead_letters_that_a_client_can_cause_stop_nobody(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    """Producers refuse such events; an older one, or an agent of a user, may not."""
    session = new_session("nested deep")
    subject = f"sessions.{session.partition}.default.{session.session_id}.session"
    deep = encode(session.requested()).replace(
        b'"metadata":{}', b'"metadata":{"a":' + b"[" * 120 + b"]" * 120 + b"}"
    )
    assert b"[[[" in deep
    for number in range(250):
        await bus.publish(Outgoing(subject, deep, f"deep {number}"))
    await publish([session.requested()])
    ingest.options = IngestOptions(dead_letters_in_a_row=100)

    ingest.start(session.partition)
    await event_log.until(1)

    await ingest.until_ready()
    letters = await event_log.dead_letters()
    assert len(letters) == 250
    assert {letter["error"] for letter in letters} == {"InvalidBody: nested deeper than 100 levels"}


async def test_dead_letters_of_clients_do_not_hide_those_that_stop_the_partition(
    bus: Bus, ingest: "RunningIngest", new_session: "NewSession", eventually: "Eventually"
) -> None:
    session = new_session("both kinds")
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    body = encode(session.turn(1)).replace(b'"turn":1', b'"turn":"one"')
    for number in range(6):
        await bus.publish(Outgoing(subject, b"wrong", f"raw {number}"))
        await bus.publish(Outgoing(subject, body, f"body {number}"))
    ingest.options = IngestOptions(dead_letters_in_a_row=5)

    ingest.start(session.partition)

    await eventually(lambda: ingest.is_unready_because("stopped: 5 dead letters in a row"))


@pytest.mark.parametrize("fault", [CHECK, TRIGGER, AT_COMMIT], ids=["check", "trigger", "at commit"])
async def test_a_database_that_refuses_every_event_stops_the_partition(
    fault: str,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
    database: Database,
) -> None:
    await database.pool.execute(fault)
    session = new_session("refused")
    events = [session.requested(), *[session.turn(number) for number in range(1, 30)]]
    await publish(events)
    ingest.options = IngestOptions(dead_letters_in_a_row=5)

    ingest.start(session.partition)

    await eventually(lambda: ingest.is_unready_because("a known good event is refused too"))
    assert len(await event_log.dead_letters()) == 5
    assert await event_log.count() == 0
    await ingest.end()
    await database.pool.execute("alter table event_log drop constraint if exists oops")
    await database.pool.execute("drop trigger if exists boom on event_log")
    ingest.restart(session.partition)
    await event_log.until(len(events) - 5)


async def test_a_bug_in_validation_stops_the_partition(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_subject: str, _payload: bytes) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(validation, "validated_event", broken)
    session = new_session("every event")
    await publish([session.requested(), *[session.turn(number) for number in range(1, 30)]])
    ingest.options = IngestOptions(dead_letters_in_a_row=5)

    ingest.start(session.partition)

    await eventually(lambda: ingest.is_unready_because("a known good event is refused too"))
    assert len(await event_log.dead_letters()) == 5


async def test_values_that_postgres_refuses_stop_nobody_and_are_counted_in_readiness(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    """Of a client: the canary is stored, rolled back, and ingest goes on."""
    session = new_session("another tenant")
    subject = f"sessions.{session.partition}.other.{session.session_id}.turn"
    await publish([session.requested()])
    theirs = replace(session.turn(1), tenant="other")
    for number in range(12):
        await bus.publish(Outgoing(subject, encode(replace(theirs, id=f"their {number}")), f"their {number}"))
    await publish([session.turn(1)])
    ingest.options = IngestOptions(dead_letters_in_a_row=5)

    ingest.start(session.partition)

    await event_log.until(2)
    await ingest.until_ready()
    assert len(await event_log.dead_letters()) == 12
    assert await event_log.count() == 2
    assert await ingest.readiness.check() == "12 dead letters in the last 10 minutes"
