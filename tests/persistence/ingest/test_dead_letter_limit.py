"""A partition that only finds dead letters stops, unless a client can cause them; a restart goes on."""

from typing import TYPE_CHECKING

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.contracts.envelope import encode
from antiphon.persistence.ingest.partition import IngestOptions

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, RunningIngest


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
