"""The outbox with a real broker, and during outages."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import session_id_for_key
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Outbox
from antiphon.recorder.outbox.journal_file import START
from antiphon.recorder.outbox.records import read_records

SESSION = session_id_for_key("default", "outbox")


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="outbox"))
    yield link
    await link.close()


def make_outbox(folder: Path, link: BusLink, job_id: str = "AJ_1") -> Outbox:
    return Outbox(folder, link, job_id=job_id)


def write(outbox: Outbox, event: Event, *, at: float | None = None) -> None:
    outbox.writer(SESSION, "default").write(event, at=at)


def turn(number: int, text: str = "") -> TurnSaved:
    return TurnSaved(turn=number, agent_id="host", user_text=text)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def history(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(session_filter("default", SESSION))]


async def test_events_are_published_in_order_with_dense_numbers_and_deterministic_ids(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    for number in range(1, 2001):
        write(outbox, turn(number))

    assert await outbox.close(20)

    events = await history(bus)
    assert [event.producerseq for event in events] == list(range(1, 2001))
    assert events[6].id == f"{SESSION}:agent:AJ_1:7"
    assert files_in(tmp_path) == []


async def test_event_can_be_dated_before_its_write(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    outbox.writer(SESSION, "default").traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    write(outbox, AgentStateChanged(old_state="listening", new_state="thinking"), at=1_700_000_000.5)
    assert await outbox.close(10)
    (event,) = await history(bus)
    assert event.time.timestamp() == 1_700_000_000.5
    assert event.traceparent == outbox.writer(SESSION, "default").traceparent


async def test_broker_restart_loses_nothing_and_keeps_the_order(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    for number in range(1, 51):
        write(outbox, turn(number))
    assert await outbox.flush(10)

    nats_server.kill()
    for number in range(51, 1051):
        write(outbox, turn(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    assert not await outbox.flush(0.5)
    nats_server.start()  # not in a thread: the server dies with the thread that started it

    assert await outbox.close(60)
    assert [event.producerseq for event in await history(bus)] == list(range(1, 1051))


async def test_outbox_waits_for_a_broker_that_is_down_at_start(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    nats_server.stop()
    link = BusLink(partial(Bus.connect, nats_server.url, connect_timeout_seconds=0.5))
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    write(outbox, turn(1))
    assert not await outbox.flush(1)
    nats_server.start()  # not in a thread: the server dies with the thread that started it
    assert await outbox.close(30)
    assert [event.producerseq for event in await history(bus)] == [1]
    await link.close()


async def test_already_stored_events_are_not_duplicated(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = make_outbox(tmp_path, link)
    for number in range(1, 11):
        write(outbox, turn(number))
    (journal,) = files_in(tmp_path)
    descriptor = os.open(journal, os.O_RDONLY)
    records = list(read_records(descriptor, START, journal.stat().st_size))
    os.close(descriptor)
    for record in records[2:5]:  # 3, 4, 5: by an earlier pump
        await bus.publish(outgoing(decode(record.payload)))
    outbox.start()
    assert await outbox.close(20)
    stored = await history(bus)
    assert sorted(event.producerseq for event in stored) == list(range(1, 11))


async def test_refused_event_is_set_aside_and_does_not_block_others(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    outbox = make_outbox(tmp_path, link)
    write(outbox, turn(1))
    write(outbox, turn(2, text="x" * 2_000_000))
    write(outbox, turn(3))
    outbox.start()
    assert await outbox.close(20)
    assert [event.producerseq for event in await history(bus)] == [1, 3]
    (refused,) = files_in(tmp_path)
    assert refused.suffix == ".refused"
    assert decode(refused.read_bytes().strip()).producerseq == 2


async def test_unpublished_events_stay_in_the_journal(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    write(outbox, turn(1))
    assert await outbox.flush(10)
    nats_server.stop()
    write(outbox, turn(2))
    assert not await outbox.close(0.5)
    (journal,) = files_in(tmp_path)
    assert journal.name == "AJ_1.journal"


async def test_events_held_in_memory_are_published_when_the_disk_is_full(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox(tmp_path, link)
    write(outbox, turn(1))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    write(outbox, turn(2))
    write(outbox, turn(3))
    outbox.start()
    assert await outbox.close(20)
    assert [event.producerseq for event in await history(bus)] == [1, 2, 3]
    assert files_in(tmp_path) == []


async def test_pump_retries_a_journal_that_cannot_be_read(
    bus: Bus,
    link: BusLink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox = make_outbox(tmp_path, link)
    write(outbox, turn(1))
    with monkeypatch.context() as disk:
        disk.setattr(os, "pread", lambda *_: b"")
        outbox.start()
        assert not await outbox.flush(0.5)
    assert await outbox.close(20)
    assert [event.producerseq for event in await history(bus)] == [1]
    assert any(message.startswith("outbox.publish_failed ") for message in caplog.messages)


async def test_refused_event_blocks_nothing_when_it_cannot_be_set_aside(
    bus: Bus, link: BusLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = make_outbox(tmp_path, link)
    (tmp_path / "AJ_1.refused").mkdir()
    write(outbox, turn(1, "x" * 2_000_000))
    write(outbox, turn(2))
    outbox.start()
    assert await outbox.close(20)
    assert [event.producerseq for event in await history(bus)] == [2]
    assert any(message.startswith("outbox.refused_event_lost ") for message in caplog.messages)
