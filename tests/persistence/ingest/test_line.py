"""A line carries one partition from the bus to the log, in order, each event once, whatever happens."""

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.streams import ingest_consumer
from antiphon.contracts.subjects import committed_filter
from antiphon.persistence.ingest.store import Store
from antiphon.persistence.keep import Fenced

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, Lines, LogReader, Publish, Story, Tell

_announcement = msgspec.json.Decoder(list[Envelope])


def raw(told: "Story", payload: bytes, number: int) -> Outgoing:
    """Return a message that is no event, on a session's subject."""
    return Outgoing(f"sessions.{told.partition}.default.{told.session_id}.turn", payload, f"raw {number}")


async def test_a_call_gets_dense_sequences_in_the_order_it_was_told(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("a call")
    call = told.whole_call()
    await publish(call)
    lines.start(told.partition)
    await event_log.until(len(call))

    assert await event_log.events(told.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_every_commit_is_announced(bus: Bus, publish: "Publish", lines: "Lines", story: "Tell") -> None:
    told = story("announced")
    heard = await bus.subscribe(committed_filter(told.partition))
    lines.start(told.partition)
    call = told.whole_call()
    await publish(call)

    said: list[Envelope] = []
    async with asyncio.timeout(10):
        async for subject, payload in heard:
            assert subject == f"committed.{told.partition}.default.{told.session_id}"
            said += _announcement.decode(payload)
            if len(said) == len(call):
                break
    await heard.close()

    assert [(envelope.sequence, envelope.id) for envelope in said] == [
        (n, e.id) for n, e in enumerate(call, 1)
    ]


async def test_a_line_that_starts_again_goes_on_after_its_checkpoint(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("again")
    first, second = told.requested(), told.turn(1)
    lines.start(told.partition)
    await publish([first])
    await event_log.until(1)
    await lines.end()

    await publish([second])
    lines.stop = asyncio.Event()
    lines.start(told.partition)
    await event_log.until(2)

    assert await event_log.events(told.session_id) == [(1, first.id), (2, second.id)]


async def test_what_was_delivered_and_not_acknowledged_is_not_lost_behind_what_is_new(
    bus: Bus, publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    """After a crash the broker would deliver what is new first; the line starts from its checkpoint."""
    told = story("crashed")
    call = told.whole_call(turns=5)
    await publish(call[:6])
    consumer = ingest_consumer(told.partition)
    async with bus.pull(consumer, batch=3) as crashed:
        await crashed.next()
    await publish(call[6:])

    lines.start(told.partition)
    await event_log.until(len(call))

    assert await event_log.events(told.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_what_can_never_be_valid_is_set_aside_and_blocks_nothing(
    bus: Bus, publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("dead")
    first, second = told.requested(), told.turn(1)
    await publish([first])
    await bus.publish(raw(told, b"not an envelope", 1))
    await publish([second])
    lines.start(told.partition)
    await event_log.until(2)

    [letter] = await event_log.dead_letters()
    assert (letter["payload"], letter["partition"], letter["position"]) == (
        b"not an envelope",
        told.partition,
        2,
    )
    assert "MalformedEvent" in letter["error"]
    assert await event_log.events(told.session_id) == [(1, first.id), (2, second.id)]


async def test_poison_is_found_by_bisection_and_its_neighbours_are_kept(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    """What only Postgres can tell, such as NUL in an id, costs that one event its place, not the batch."""
    told = story("poison")
    call = [told.requested(), *[told.turn(n) for n in range(1, 40)]]
    poisoned = {7, 8, 31}
    batch = [msgspec.structs.replace(e, id=f"nul \0 {n}") if n in poisoned else e for n, e in enumerate(call)]
    # a NUL cannot travel in a header, so the message ids are others
    outs = [
        msgspec.structs.replace(outgoing(envelope), message_id=f"m{n}") for n, envelope in enumerate(batch)
    ]
    await lines.bus.publish_many(outs)
    lines.start(told.partition)
    await event_log.until(len(call) - len(poisoned))

    kept = [envelope.id for n, envelope in enumerate(call) if n not in poisoned]
    assert await event_log.events(told.session_id) == list(enumerate(kept, 1))
    assert [letter["position"] - 1 for letter in await event_log.dead_letters()] == sorted(poisoned)


async def test_times_that_postgres_cannot_hold_are_set_aside(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("times")
    first, early, late, last = told.requested(), told.turn(1), told.turn(2), told.turn(3)
    times = {early.id: b"0001-01-01T00:00:00+14:00", late.id: b"9999-12-31T23:59:59-14:00"}
    good = b"2026-01-01T00:00:00Z"
    for envelope in (first, early, late, last):
        out = outgoing(envelope)
        time = b'"time":"%b"' % times.get(envelope.id, good)
        payload = re.sub(rb'"time":"[^"]*"', time, out.payload)
        await lines.bus.publish(msgspec.structs.replace(out, payload=payload))
    lines.start(told.partition)
    await event_log.until(2)

    assert await event_log.events(told.session_id) == [(1, first.id), (2, last.id)]
    assert len(await event_log.dead_letters()) == 2


async def test_too_many_dead_letters_in_a_row_stop_the_line(
    bus: Bus,
    publish: "Publish",
    lines: "Lines",
    event_log: "LogReader",
    story: "Tell",
    eventually: "Eventually",
) -> None:
    told, other = story("stopped"), story("stopped as well")
    assert other.partition != told.partition
    lines.options = replace(lines.options, dead_letters_in_a_row=5)
    await publish([told.requested()])
    for number in range(8):
        await bus.publish(raw(told, b"wrong", number))
    await publish([told.turn(1), other.requested()])
    lines.start(told.partition, other.partition)

    await eventually(lambda: lines.says("stopped"))
    await event_log.until(2)

    assert await lines.reason() == (
        f"partition {told.partition} the line is stopped: 5 dead letters in a row; "
        "the last: MalformedEvent: JSON is malformed: invalid character (byte 0)"
    )
    assert len(await event_log.dead_letters()) == 5
    assert len(await event_log.events(told.session_id)) == 1
    assert len(await event_log.events(other.session_id)) == 1  # the other line goes on


async def test_a_good_event_between_starts_the_count_again(
    bus: Bus, publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("mixed")
    lines.options = replace(lines.options, dead_letters_in_a_row=3)
    for number in range(1, 6):
        await bus.publish(raw(told, b"wrong", number))
        await bus.publish(raw(told, b"wrong", -number))
        await publish([told.turn(number)])
    lines.start(told.partition)
    await event_log.until(5)

    assert await lines.reason() == ""
    assert len(await event_log.dead_letters()) == 10


async def test_postgres_away_holds_the_batch_and_says_so(
    publish: "Publish",
    lines: "Lines",
    event_log: "LogReader",
    story: "Tell",
    postgres_server: Postgres,
    eventually: "Eventually",
) -> None:
    told = story("held")
    call = told.whole_call()
    lines.start(told.partition)
    await publish(call[:2])
    await event_log.until(2)

    postgres_server.kill()
    await publish(call[2:])
    await eventually(lambda: lines.says("holds"))
    postgres_server.start()
    await event_log.until(len(call), seconds=30)
    await eventually(lines.ready)

    assert await event_log.events(told.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_a_restarted_broker_loses_nothing(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell", nats_server: NatsServer
) -> None:
    told = story("restarted")
    call = told.whole_call(turns=20)
    lines.start(told.partition)
    await publish(call[:5])
    await event_log.until(5)

    nats_server.kill()
    nats_server.start()
    other = await Bus.connect(nats_server.url, name="after")
    await other.publish_many([outgoing(envelope) for envelope in call[5:]])
    await event_log.until(len(call), seconds=30)
    await other.close()

    assert await event_log.events(told.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_a_consumer_that_was_deleted_is_made_again(
    bus: Bus, publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell"
) -> None:
    told = story("deleted")
    lines.start(told.partition)
    await publish([told.requested()])
    await event_log.until(1)

    await bus.connection.api(f"CONSUMER.DELETE.SESSIONS.ingest-{told.partition}")
    await publish([told.turn(1)])
    await event_log.until(2, seconds=30)

    assert await lines.reason() == ""


async def test_a_stream_that_was_made_anew_is_not_taken_for_the_old_one(
    publish: "Publish", lines: "Lines", story: "Tell", database: Database, eventually: "Eventually"
) -> None:
    """Its positions start again: whoever waited for the old ones would wait for ever, in silence."""
    told = story("anew")
    store = Store(database, lines.writer, told.partition)
    await store.claim()
    await database.pool.execute("update checkpoints set position = 1000")
    await publish([told.requested()])
    lines.start(told.partition)

    await eventually(lambda: lines.says("recreated"))


async def test_a_line_whose_partition_was_taken_over_ends(
    publish: "Publish", lines: "Lines", event_log: "LogReader", story: "Tell", database: Database
) -> None:
    told = story("fenced")
    lines.start(told.partition)
    await publish([told.requested()])
    await event_log.until(1)

    successor = Store(database, lines.writer, told.partition)
    await successor.claim()
    await publish([told.turn(1)])

    with pytest.raises(Fenced):
        await asyncio.wait_for(lines.tasks[told.partition], 10)
    assert await event_log.count() == 1
