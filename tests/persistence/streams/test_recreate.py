"""`streams recreate` brings a lost stream back: dense afterwards, and nothing that was readable is lost."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.fixtures.broker import erase
from tests.fixtures.raw_nats import RawPublisher
from tests.persistence.streams.reading import gaps_of, ingest_all

from antiphon.chassis.bus import (
    Bus,
    HistoryGap,
    Incoming,
    Outgoing,
    StorageTooSmall,
    outgoing,
    read,
    replace,
    stored,
)
from antiphon.chassis.bus.protocol import LONGEST_SUBJECT
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PROBE
from antiphon.persistence.streams.recreate import Refused, recreate, render_recreated
from antiphon.persistence.streams.status import read_stream_status, render

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
        SampleSession,
    )


async def test_a_deleted_stream_is_created_after_everything_in_the_log(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
) -> None:
    call = [session.turn(n) for n in range(1, 17)]
    await publish(call[:8])
    await ingest_all(ingest, event_log, session.partition, 8)
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    status = await read_stream_status(bus, database)
    assert status.stream is None
    assert "stream SESSIONS does not exist: run `python -m antiphon.persistence streams" in render(status)

    result = await recreate(bus, database, replace_existing=False)
    await bus.verify()
    await publish(call[8:])
    await ingest_all(ingest, event_log, session.partition, 16)

    assert (result.first, result.taken_over, result.missing, result.most) == (9, 0, {}, 0)
    assert "it starts at position 9" in render_recreated(result)
    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert (await read_stream_status(bus, database)).problems == []


async def test_the_unread_messages_of_a_foreign_stream_are_taken_over(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    eventually: "Eventually",
) -> None:
    """Its positions are in the log already, for other events."""
    call = [session.turn(n) for n in range(1, 25)]
    await publish(call[:16])
    await ingest_all(ingest, event_log, session.partition, 16)
    await erase(bus)
    await bus.ensure()
    await publish(call[12:])  # four of them are in the log
    await bus.publish(Outgoing(PROBE, b"", message_id=""))  # no event: it is not taken over
    ingest.restart(session.partition)
    await eventually(lambda: ingest.is_unready_because("is stopped"), seconds=60)
    assert "STOPPED" in render(await read_stream_status(bus, database))

    with pytest.raises(Refused, match=f"partitions {session.partition} cannot continue .* add --replace"):
        await recreate(bus, database, replace_existing=False)
    result = await recreate(bus, database, replace_existing=True)
    await ingest.end()  # it is fenced, and would be started again by its lease
    await publish([session.turn(25)])
    await ingest_all(ingest, event_log, session.partition, 25)

    assert (result.first, result.taken_over, result.missing) == (17, 8, {})
    events = await event_log.events(session.session_id)
    assert [number for number, _ in events] == list(range(1, 26))
    assert [event for _, event in events][:24] == [envelope.id for envelope in call]


async def test_an_intact_stream_is_not_recreated_without_being_asked(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    new_session: "NewSession",
) -> None:
    other = new_session("never read")
    assert other.partition != session.partition
    await publish([session.turn(1), other.turn(1), session.turn(2)])
    await ingest_all(ingest, event_log, session.partition, 2)

    with pytest.raises(Refused, match="nothing to recreate"):
        await recreate(bus, database, replace_existing=False)
    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, other.partition, 3)

    assert (result.first, result.taken_over, result.missing) == (4, 1, {})
    assert (await read_stream_status(bus, database)).gaps == []


async def test_what_was_lost_is_counted_and_recorded(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    new_session: "NewSession",
) -> None:
    other = new_session("lost")
    assert other.partition != session.partition
    await publish([session.turn(1), other.turn(1), other.turn(2), session.turn(2)])
    await ingest_all(ingest, event_log, session.partition, 2)
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    result = await recreate(bus, database, replace_existing=False)

    assert session.partition not in result.missing
    assert result.missing[other.partition] == (1, 4)
    assert result.most == 2
    gaps = (await read_stream_status(bus, database)).gaps
    assert (other.partition, 1, 4) in [(gap.partition, gap.first, gap.last) for gap in gaps]
    assert "at most 2 events" in render_recreated(result)


async def test_dead_letters_are_not_repeated_and_erased_sessions_not_read_again(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
) -> None:
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    await bus.publish(Outgoing(subject, b"wrong", ""))
    await publish([session.turn(1)])
    await ingest_all(ingest, event_log, session.partition, 1)
    await bus.publish(Outgoing(subject, b"wrong as well", ""))
    await database.pool.fetchval("select erase_session($1)", session.session_id)

    result = await recreate(bus, database, replace_existing=True)
    await publish([session.turn(2)])
    await ingest_all(ingest, event_log, session.partition, 1)

    assert result.taken_over == 1
    assert [letter["payload"] for letter in await event_log.dead_letters()] == [b"wrong", b"wrong as well"]


async def test_what_an_operator_tuned_is_kept(bus: Bus, database: Database) -> None:
    config = (await bus.connection.api("STREAM.INFO.SESSIONS"))["config"]
    await bus.connection.api("STREAM.UPDATE.SESSIONS", config | {"max_bytes": 1 << 30})

    await recreate(bus, database, replace_existing=True)

    assert (await bus.connection.api("STREAM.INFO.SESSIONS"))["config"]["max_bytes"] == 1 << 30


async def test_a_size_that_the_broker_refuses_changes_nothing(
    bus: Bus,
    database: Database,
    publish: "Publish",
    session: "SampleSession",
) -> None:
    await publish([session.turn(1)])
    before = await bus.stream_state()

    with pytest.raises(StorageTooSmall, match=r"The broker refuses the stream SESSIONS.*ANTIPHON_STREAM_MAX"):
        await recreate(bus, database, replace_existing=True, max_bytes=1 << 50)

    assert before is not None
    assert await bus.stream_state() == before
    assert await database.pool.fetchval("select count(*) from checkpoints where stopped is not null") == 0
    result = await recreate(bus, database, replace_existing=True, max_bytes=1 << 28)
    assert result.taken_over == 1
    assert (await bus.connection.api("STREAM.INFO.SESSIONS"))["config"]["max_bytes"] == 1 << 28


async def test_messages_that_a_replica_does_not_have_yet_are_taken_over(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any replica answers a direct get: here one that ends two messages before the leader."""
    read_batch = read._read_batch

    async def stale(*arguments: Any) -> tuple[list[Incoming], bool]:
        batch, more = await read_batch(*arguments)
        return (batch, more) if more else (batch[:-2], False)

    monkeypatch.setattr(read, "_read_batch", stale)
    call = [session.turn(n) for n in range(1, 41)]
    await publish(call[:10])
    await ingest_all(ingest, event_log, session.partition, 10)
    await publish(call[10:])

    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, session.partition, 40)

    assert (result.first, result.taken_over) == (11, 30)
    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


@pytest.mark.parametrize(("stream", "messages"), [("SESSIONS", 20), (replace.UNREAD, 21)])
async def test_a_stream_that_could_not_be_read_whole_is_kept(
    stream: str,
    messages: int,
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = [session.turn(n) for n in range(1, 21)]
    await publish(call)
    message_at = stored.message_at

    async def lossy(connection: Any, name: str, request: dict[str, Any]) -> Incoming | None:
        if name == stream and request["seq"] == 7:
            return None
        return await message_at(connection, name, request)

    with monkeypatch.context() as patched:
        patched.setattr(stored, "message_at", lossy)
        with pytest.raises(HistoryGap, match=f"{stream} has {messages} messages"):
            await recreate(bus, database, replace_existing=True)

    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, session.partition, 20)

    assert (result.first, result.missing) == (1, {})
    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_messages_at_the_limits_are_taken_over(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    nats_server: NatsServer,
) -> None:
    """A copy has another subject, and the headers of a batch."""
    start = f"sessions.{session.partition}.default.{session.session_id}."
    room = bus.max_payload - 120 - len(outgoing(session.turn(1, "")).payload)
    call = [session.turn(2), session.turn(3, "x" * room), session.turn(4)]
    for event in call:
        await bus.publish(outgoing(event))
    raw = RawPublisher(nats_server.port)
    raw.publish((start + "x" * (LONGEST_SUBJECT - len(start))).encode(), b"long subject")
    raw.publish(f"{start}turn".encode(), b"y" * bus.max_payload)
    raw.close()
    await publish([last := session.turn(5)])

    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, session.partition, 4)

    assert result.taken_over == 6
    assert [event for _, event in await event_log.events(session.session_id)] == [
        event.id for event in (*call, last)
    ]
    letters = [bytes(letter["payload"]) for letter in await event_log.dead_letters()]
    assert letters == [b"long subject", b"y" * bus.max_payload]


async def test_messages_that_were_dropped_unread_are_reported_before_the_stream_is_deleted(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
) -> None:
    call = [session.turn(n) for n in range(1, 21)]
    await publish(call[:10])
    await ingest_all(ingest, event_log, session.partition, 10)
    await publish(call[10:])
    await bus.connection.api("STREAM.PURGE.SESSIONS", {"seq": 16})  # as max_age would

    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, session.partition, 15)

    assert (result.first, result.taken_over, result.most) == (16, 5, 5)
    assert result.missing[session.partition] == (11, 15)
    assert "11 to 15" in render_recreated(result)
    assert await gaps_of(bus, database, session) == [(11, 15)]


async def test_a_log_that_was_restored_from_before_a_recreation_reports_what_it_lacks(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
) -> None:
    """The stream starts after what the log had before it was put back."""
    call = [session.turn(n) for n in range(1, 51)]
    await publish(call[:20])
    await ingest_all(ingest, event_log, session.partition, 20)
    await replace.delete(bus.connection, "SESSIONS")
    await replace.create_closed(bus.connection, SESSIONS, 41)
    await replace.open_intake(bus.connection, SESSIONS)
    await publish(call[40:])

    result = await recreate(bus, database, replace_existing=True)
    await ingest_all(ingest, event_log, session.partition, 30)

    assert (result.first, result.taken_over) == (41, 10)
    assert result.missing[session.partition] == (21, 40)
    assert await gaps_of(bus, database, session) == [(21, 40)]
