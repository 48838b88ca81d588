"""Ingest of one partition: in order and each event once, despite crashes, poison and takeovers."""

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from alembic.script import ScriptDirectory

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import committed_filter
from antiphon.persistence import migrations
from antiphon.persistence.errors import Fenced
from antiphon.persistence.ingest import partition
from antiphon.persistence.sql import read_sql

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
        SampleSession,
    )
    from tests.persistence.ingest.conftest import NewPartition

_announcement = msgspec.json.Decoder(list[Envelope])


def raw(session: "SampleSession", payload: bytes, number: int) -> Outgoing:
    """Return a message on a session's subject that is not an event."""
    return Outgoing(
        f"sessions.{session.partition}.default.{session.session_id}.turn", payload, f"raw {number}"
    )


def batch_statements() -> list[str]:
    """Return the statements that create `ingest_batch` and its types."""
    revision = ScriptDirectory.from_config(migrations._config()).get_revision("0002")
    function = read_sql("antiphon.persistence.migrations", "versions/0008_ingest_batch.sql")
    return [*revision.module.TYPES, function]


async def test_sequences_are_dense_and_in_order(
    publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("a call")
    call = session.whole_call()
    await publish(call)
    ingest.start(session.partition)
    await event_log.until(len(call))

    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_every_commit_is_announced(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", new_session: "NewSession"
) -> None:
    session = new_session("announced")
    subscription = await bus.subscribe(committed_filter(session.partition))
    ingest.start(session.partition)
    call = session.whole_call()
    await publish(call)

    announced: list[Envelope] = []
    async with asyncio.timeout(60):
        async for subject, payload in subscription:
            assert subject == f"committed.{session.partition}.default.{session.session_id}"
            announced += _announcement.decode(payload)
            if len(announced) == len(call):
                break
    await subscription.close()

    assert [(envelope.sequence, envelope.id) for envelope in announced] == [
        (n, e.id) for n, e in enumerate(call, 1)
    ]


async def test_a_restart_continues_after_the_checkpoint(
    publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("again")
    first, second = session.requested(), session.turn(1)
    ingest.start(session.partition)
    await publish([first])
    await event_log.until(1)
    await ingest.end()

    await publish([second])
    ingest.stop = asyncio.Event()
    ingest.start(session.partition)
    await event_log.until(2)

    assert await event_log.events(session.session_id) == [(1, first.id), (2, second.id)]


async def test_unacknowledged_messages_are_not_lost_behind_new_ones(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    """After a crash the broker would deliver new messages first; ingest resets to its checkpoint."""
    session = new_session("crashed")
    call = session.whole_call(turns=5)
    await publish(call[:6])
    consumer = ingest_consumer(session.partition)
    async with bus.pull(consumer, batch=3) as crashed:
        await crashed.next()
    await publish(call[6:])

    ingest.start(session.partition)
    await event_log.until(len(call))

    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_an_invalid_message_becomes_a_dead_letter_and_blocks_nothing(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("dead")
    first, second = session.requested(), session.turn(1)
    await publish([first])
    await bus.publish(raw(session, b"not an envelope", 1))
    await publish([second])
    ingest.start(session.partition)
    await event_log.until(2)

    [letter] = await event_log.dead_letters()
    assert (letter["payload"], letter["partition"], letter["position"]) == (
        b"not an envelope",
        session.partition,
        2,
    )
    assert "MalformedEvent" in letter["error"]
    assert await event_log.events(session.session_id) == [(1, first.id), (2, second.id)]


async def test_poisoned_events_are_found_by_bisection_and_the_others_committed(
    publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    """A value that only Postgres rejects, such as a time in the year 0, poisons only that event."""
    session = new_session("poison")
    call = [session.requested(), *[session.turn(n) for n in range(1, 40)]]
    poisoned = {7, 8, 31}
    outs = [outgoing(envelope) for envelope in call]
    for n in poisoned:
        time = b'"time":"0001-01-01T00:00:00+14:00"'
        payload = re.sub(rb'"time":"[^"]*"', time, outs[n].payload)
        outs[n] = msgspec.structs.replace(outs[n], payload=payload)
    await ingest.bus.publish_many(outs)
    ingest.start(session.partition)
    await event_log.until(len(call) - len(poisoned))

    kept = [envelope.id for n, envelope in enumerate(call) if n not in poisoned]
    assert await event_log.events(session.session_id) == list(enumerate(kept, 1))
    assert [letter["position"] - 1 for letter in await event_log.dead_letters()] == sorted(poisoned)


async def test_times_that_postgres_cannot_store_become_dead_letters(
    publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("times")
    first, early, late, last = session.requested(), session.turn(1), session.turn(2), session.turn(3)
    times = {early.id: b"0001-01-01T00:00:00+14:00", late.id: b"9999-12-31T23:59:59-14:00"}
    good = b"2026-01-01T00:00:00Z"
    for envelope in (first, early, late, last):
        out = outgoing(envelope)
        time = b'"time":"%b"' % times.get(envelope.id, good)
        payload = re.sub(rb'"time":"[^"]*"', time, out.payload)
        await ingest.bus.publish(msgspec.structs.replace(out, payload=payload))
    ingest.start(session.partition)
    await event_log.until(2)

    assert await event_log.events(session.session_id) == [(1, first.id), (2, last.id)]
    assert len(await event_log.dead_letters()) == 2


async def test_too_many_dead_letters_in_a_row_stop_the_partition(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session, other = new_session("stopped"), new_session("stopped as well")
    assert other.partition != session.partition
    ingest.options = replace(ingest.options, dead_letters_in_a_row=5)
    await publish([session.requested()])
    for number in range(8):
        await bus.publish(raw(session, b"wrong", number))
    await publish([session.turn(1), other.requested()])
    ingest.start(session.partition, other.partition)

    await eventually(lambda: ingest.is_unready_because("stopped"))
    await event_log.until(2)

    assert await ingest.reason() == (
        f"partition {session.partition} is stopped: 5 dead letters in a row; "
        "the last: MalformedEvent: JSON is malformed: invalid character (byte 0)"
    )
    assert len(await event_log.dead_letters()) == 5
    assert len(await event_log.events(session.session_id)) == 1
    assert len(await event_log.events(other.session_id)) == 1  # the other partition continues


async def test_a_valid_event_resets_the_count_of_dead_letters(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("mixed")
    ingest.options = replace(ingest.options, dead_letters_in_a_row=3)
    for number in range(1, 6):
        await bus.publish(raw(session, b"wrong", number))
        await bus.publish(raw(session, b"wrong", -number))
        await publish([session.turn(number)])
    ingest.start(session.partition)
    await event_log.until(5)

    await ingest.until_ready()
    assert len(await event_log.dead_letters()) == 10


async def test_while_postgres_is_down_the_batch_is_kept_and_ingest_is_unready(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_server: Postgres,
    eventually: "Eventually",
) -> None:
    session = new_session("held")
    call = session.whole_call()
    ingest.start(session.partition)
    await publish(call[:2])
    await event_log.until(2)

    postgres_server.kill()
    await publish(call[2:])
    await eventually(lambda: ingest.is_unready_because("cannot commit"))
    postgres_server.start()
    await event_log.until(len(call), seconds=30)
    await eventually(ingest.ready)

    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_a_restarted_broker_loses_nothing(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    nats_server: NatsServer,
) -> None:
    session = new_session("restarted")
    call = session.whole_call(turns=20)
    ingest.start(session.partition)
    await publish(call[:5])
    await event_log.until(5)

    nats_server.kill()
    nats_server.start()
    other = await Bus.connect(nats_server.url, name="after")
    await other.publish_many([outgoing(envelope) for envelope in call[5:]])
    await event_log.until(len(call), seconds=30)
    await other.close()

    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_a_deleted_consumer_is_created_again(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("deleted")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)

    await bus.connection.api(f"CONSUMER.DELETE.SESSIONS.ingest-{session.partition}")
    await publish([session.turn(1)])
    await event_log.until(2, seconds=30)

    await ingest.until_ready()


async def test_a_deleted_consumer_is_created_though_another_definition_differs(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("differs")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)

    config = (await bus.connection.api("STREAM.INFO.KV_flows"))["config"]
    await bus.connection.api("STREAM.UPDATE.KV_flows", config | {"max_msg_size": 1 << 20})
    await bus.connection.api(f"CONSUMER.DELETE.SESSIONS.ingest-{session.partition}")
    await publish([session.turn(1)])
    await event_log.until(2, seconds=30)

    await ingest.until_ready()


async def test_ingest_continues_after_its_types_were_created_again(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    database: Database,
) -> None:
    """Open connections have cached the ids of the types, as after a restore."""
    session = new_session("types")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)

    async with database.transaction() as connection:
        await connection.execute("drop type partition_commit, new_event, new_dead_letter cascade")
        for statement in batch_statements():
            await connection.execute(statement)
    await publish([session.turn(1)])
    await event_log.until(2, seconds=30)

    await ingest.until_ready()


async def test_a_recreated_stream_is_detected(
    publish: "Publish",
    ingest: "RunningIngest",
    new_session: "NewSession",
    new_partition: "NewPartition",
    database: Database,
    eventually: "Eventually",
) -> None:
    """Its positions start again: waiting for the old ones would never end."""
    session = new_session("recreated")
    await new_partition(session.partition, database).claim()
    await database.pool.execute("update checkpoints set position = 1000")
    await publish([session.requested()])
    ingest.start(session.partition)

    await eventually(lambda: ingest.is_unready_because("recreated or restored"), seconds=60)


async def test_ingest_ends_when_the_partition_is_taken_over(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    new_partition: "NewPartition",
    database: Database,
) -> None:
    session = new_session("fenced")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)

    await new_partition(session.partition, database).claim()
    await publish([session.turn(1)])

    with pytest.raises(Fenced):
        await asyncio.wait_for(ingest.tasks[session.partition], 60)
    assert await event_log.count() == 1


async def test_a_paused_consumer_turns_readiness_red_until_it_delivers(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition, "CAUGHT_UP_SECONDS", 0.5)
    session = new_session("paused")
    pause = f"CONSUMER.PAUSE.SESSIONS.ingest-{session.partition}"
    await bus.connection.api(pause, {"pause_until": "2126-01-01T00:00:00Z"})
    ingest.start(session.partition)
    await publish([session.turn(1), session.turn(2)])

    words = f"is consumer ingest-{session.partition} paused?"
    await eventually(lambda: ingest.is_unready_because(words), seconds=60)
    assert await event_log.count() == 0

    await bus.connection.api(pause, {})
    await event_log.until(2, seconds=60)
    await eventually(ingest.ready, seconds=60)
