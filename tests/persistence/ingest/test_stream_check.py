"""A stream that was deleted, recreated or restored shorter stops the partition, instead of losing events."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.persistence.ingest.partition import IngestOptions

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
    )

EVENTS = 16


async def test_a_stream_recreated_while_ingest_is_down_stops_the_partition(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """It has grown past the checkpoint: only the event at that position tells."""
    session = new_session("recreated")
    before = [session.turn(n) for n in range(1, 11)]
    ingest.start(session.partition)
    await publish(before)
    await event_log.until(len(before))
    await ingest.end()

    await publish([session.turn(n) for n in range(11, EVENTS + 1)])  # acknowledged and never read
    await erase(bus)
    await bus.ensure()
    await publish([session.turn(n) for n in range(EVENTS + 1, 2 * EVENTS + 1)])
    ingest.restart(session.partition)

    await eventually(lambda: ingest.is_unready_because("streams recreate"), seconds=60)
    reason = await ingest.reason()
    assert f"expected event {before[-1].id} at position 10" in reason
    assert await event_log.count() == len(before)
    await ingest.end()
    ingest.restart(session.partition)
    await eventually(lambda: ingest.is_unready_because(reason), seconds=60)


async def test_a_stream_recreated_while_ingest_runs_stops_the_partition(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("recreated")
    ingest.start(session.partition)
    await publish([session.turn(n) for n in range(1, EVENTS + 1)])
    await event_log.until(EVENTS)

    await bus.connection.api("STREAM.DELETE.SESSIONS")
    await bus.ensure()
    await publish([session.turn(n) for n in range(EVENTS + 1, 3 * EVENTS)])

    await eventually(lambda: ingest.is_unready_because("streams recreate"), seconds=60)
    await asyncio.sleep(1)  # it would go on by now
    assert await event_log.count() == EVENTS


@pytest.mark.embedded_servers
async def test_a_stream_restored_shorter_stops_the_partition(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    """The old store is put back, and the stream grows past the checkpoint before ingest sees it."""
    session = new_session("restored")
    ingest.start(session.partition)
    await publish([session.turn(n) for n in range(1, 13)])
    await event_log.until(12)
    restore = await _backup(nats_server)
    await publish([session.turn(n) for n in range(13, 17)])
    await event_log.until(16, seconds=60)
    await ingest.end()

    await restore()
    await publish([session.turn(n) for n in range(17, 25)])
    ingest.restart(session.partition)

    await eventually(lambda: ingest.is_unready_because("streams recreate"), seconds=60)
    assert await event_log.count() == 16


async def _backup(server: NatsServer) -> Callable[[], Awaitable[None]]:
    """Copy the store of a server; return a function that puts the copy back."""
    store, copy = server.directory / "store", server.directory / "copy"

    async def restart_with(source: object, target: object) -> None:
        server.stop()
        shutil.rmtree(str(target), ignore_errors=True)
        shutil.copytree(str(source), str(target))
        server.start()

    async def restore() -> None:
        await restart_with(copy, store)

    await restart_with(store, copy)
    return restore


async def test_a_deleted_stream_is_not_created_by_ingest(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("deleted")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)

    await bus.connection.api("STREAM.DELETE.SESSIONS")

    await eventually(lambda: ingest.is_unready_because("stream SESSIONS does not exist"), seconds=60)
    assert "streams recreate" in await ingest.reason()
    assert await bus.stream_state() is None


@pytest.mark.parametrize("unread", [0, 3])
async def test_events_that_were_dropped_unread_are_recorded_as_a_gap_once(
    unread: int,
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """A partition that had read everything has no gap, whatever was dropped."""
    session, other = new_session("gap"), new_session("gap of none")
    assert session.partition != other.partition
    ingest.start(session.partition)
    await publish([session.requested(), other.requested()])
    await event_log.until(1)

    async def read_both() -> bool:
        # The row is there before the partition knows that its commit is done.
        await ingest.partition(session.partition).record_caught_up()
        read = await event_log.pool.fetchval("select max(read_through) from checkpoints")
        return bool(read == 2)

    await eventually(read_both)
    await ingest.end()

    await publish(session.turn(n) for n in range(1, unread + 1))
    await bus.connection.api("STREAM.PURGE.SESSIONS")
    await publish([session.turn(10)])
    for _ in range(2):
        ingest.restart(session.partition)
        await event_log.until(2)
        await eventually(ingest.ready)
        await ingest.end()

    gaps = await event_log.pool.fetch("select partition, first, last from log_gaps")
    assert [tuple(gap) for gap in gaps] == ([(session.partition, 3, 2 + unread)] if unread else [])
    assert await event_log.count() == 2


async def test_a_stream_whose_read_messages_have_expired_continues(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    session = new_session("expired")
    ingest.start(session.partition)
    await publish([session.requested(), session.turn(1)])
    await event_log.until(2)
    await ingest.end()

    await bus.connection.api("STREAM.PURGE.SESSIONS")
    await publish([session.turn(2)])
    ingest.restart(session.partition)
    await event_log.until(3)

    await ingest.until_ready()


async def test_without_the_last_message_the_time_of_creation_tells(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("recreated and expired")
    ingest.start(session.partition)
    await publish([session.requested(), session.turn(1)])
    await event_log.until(2)
    await ingest.end()

    await erase(bus)
    await bus.ensure()
    await publish([session.turn(2), session.turn(3), session.turn(4)])
    await bus.connection.api("STREAM.PURGE.SESSIONS", {"keep": 1})
    ingest.restart(session.partition)

    await eventually(lambda: ingest.is_unready_because("was created at"), seconds=60)
    assert await event_log.count() == 2


async def test_a_dead_letter_is_recognized_as_the_last_message(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("dead letter at the end")
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    ingest.start(session.partition)
    await publish([session.requested()])
    await bus.publish(Outgoing(subject, b"\xff not an event", ""))

    async def dead() -> bool:
        return len(await event_log.dead_letters()) == 1

    await eventually(dead)
    await ingest.end()
    ingest.restart(session.partition)
    await publish([session.turn(1)])
    await event_log.until(2)
    await ingest.until_ready()


async def test_a_checkpoint_without_identity_adopts_the_stream(
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    """A replica of the version before writes none, and neither does a migration for a duplicate."""
    session = new_session("unknown")
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)
    await ingest.end()

    await event_log.pool.execute("update checkpoints set last_event_id = null, stream_created_at = null")
    ingest.restart(session.partition)
    await publish([session.turn(1)])
    await event_log.until(2)
    row = await event_log.pool.fetchrow("select * from checkpoints where position > 0")
    assert row is not None
    assert row["last_event_id"]
    assert row["stream_created_at"]


async def test_events_that_were_dropped_while_postgres_was_down_are_recorded_as_a_gap(
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_server: Postgres,
    eventually: "Eventually",
) -> None:
    """The deliveries before and after them are consecutive."""
    session = new_session("dropped")
    ingest.options = IngestOptions(batch=1)
    ingest.start(session.partition)
    await publish([session.requested()])
    await event_log.until(1)
    postgres_server.kill()
    await publish(session.turn(n) for n in range(1, 20))
    await eventually(lambda: ingest.is_unready_because("cannot commit"), seconds=60)
    await bus.connection.api("STREAM.PURGE.SESSIONS")

    postgres_server.start()
    await publish([session.turn(20)])

    async def committed() -> bool:
        return bool(await event_log.pool.fetchval("select true from event_log where position = 21"))

    await eventually(committed, seconds=60)
    [gap] = await event_log.pool.fetch("select first, last from log_gaps")
    count = await event_log.count()
    assert tuple(gap) == (count, 20)  # the last one committed is at the position before it
