"""The outbox with a real broker, and during outages."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from antiphon.chassis.bus import Ack, Bus, BusUnavailable, Outgoing, StreamFull, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Journal, Orphans, Outbox, held, large_events, pump
from antiphon.recorder.outbox.journal_file import START
from antiphon.recorder.outbox.records import read_records

SESSION = named_session_id("default", "outbox")


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="outbox"))
    yield link
    await link.close()


@pytest.fixture
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let events be larger than the broker accepts."""
    monkeypatch.setattr(large_events, "EVENT_BYTES", 10_000_000)


def make_outbox(folder: Path, link: BusLink, job_id: str = "AJ_1") -> Outbox:
    return Outbox(folder, link, job_id=job_id)


def write(outbox: Outbox, event: Event, *, at: float | None = None) -> None:
    outbox.writer(SESSION, "default").write(event, at=at)


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


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


@pytest.mark.usefixtures("uncut")
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


@pytest.mark.usefixtures("uncut")
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


async def test_second_outbox_of_a_job_has_a_journal_and_ids_of_its_own(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    first, second = make_outbox(tmp_path, link), make_outbox(tmp_path, link)
    for number in range(1, 4):
        write(first, turn(number))
        write(second, turn(number))
    assert [path.name for path in files_in(tmp_path)] == ["AJ_1.journal", "AJ_1~2.journal"]
    first.start()
    second.start()
    assert await first.close(20)
    assert await second.close(20)
    ids = {event.id for event in await history(bus)}
    assert len(ids) == 6
    assert files_in(tmp_path) == []


async def test_new_job_does_not_touch_the_journal_of_an_earlier_one_with_its_id(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    killed = make_outbox(tmp_path, link)
    write(killed, turn(1))
    await killed.close(0)
    again = make_outbox(tmp_path, link)
    write(again, turn(2))
    await again.close(0)

    assert await Orphans(tmp_path, link).adopt_all() == 2

    assert {event.id for event in await history(bus)} == {
        f"{SESSION}:agent:AJ_1:1",
        f"{SESSION}:agent:AJ_1~2:1",
    }


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "a/b", "", "\udcff" * 3, "x" * 500])
async def test_unusual_job_id_is_a_file_in_the_folder(
    bus: Bus, link: BusLink, tmp_path: Path, job_id: str
) -> None:
    outbox = Outbox(tmp_path / "journals", link, job_id=job_id)
    assert [path.suffix for path in files_in(tmp_path / "journals")] == [".journal"]
    assert len(files_in(tmp_path)) == 1
    await outbox.close(5)


async def test_close_does_not_raise_on_a_read_only_folder(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = make_outbox(tmp_path, link)
    outbox.start()
    write(outbox, turn(1))
    assert await outbox.flush(20)

    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "pwrite", read_only)
    monkeypatch.setattr(os, "ftruncate", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    write(outbox, turn(2))
    assert [await outbox.close(20), await outbox.close(20)] == [True, True]
    assert [event.producerseq for event in await history(bus)] == [1, 2]
    assert any(message.startswith("journal.remove_failed ") for message in caplog.messages)


async def test_events_that_no_disk_and_no_broker_took_are_counted_and_logged(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never() -> Bus:
        raise BusUnavailable("away")

    outbox = make_outbox(tmp_path, BusLink(never))
    outbox.start()
    write(outbox, turn(1))
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        write(outbox, turn(2))
        write(outbox, turn(3))
        assert not await outbox.close(0.1)
    write(outbox, turn(4))
    lost = [message for message in caplog.messages if "lost" in message]
    assert [message.split()[0] for message in lost] == ["journal.held_events_lost", "journal.event_lost"]
    assert "events=2" in lost[0]
    assert "lost=3" in lost[1]
    assert not outbox.intact


async def test_held_events_are_written_at_the_end_when_the_disk_has_room_again(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox(tmp_path, link)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        write(outbox, turn(1))
        write(outbox, turn(2))
    assert not await outbox.close(0)
    assert await Orphans(tmp_path, link).adopt_all() == 1
    assert [event.producerseq for event in await history(bus)] == [1, 2]


async def test_memory_is_bounded_in_bytes(
    link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(held, "BYTES_HELD", 100_000)
    journal = Journal.create(tmp_path / "AJ_1.journal")
    for _ in range(50):
        journal.append(b"x" * 10_000)
    assert journal.lost == 40


async def test_settled_note_stays_settled_when_the_disk_was_full(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox(tmp_path, link)
    writer = outbox.writer(SESSION, "default")
    writer.note("turn:AJ_1:1", turn(1, "part"))
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        writer.write(turn(1, "whole"), settles="turn:AJ_1:1")
    outbox.start()
    assert await outbox.flush(20)
    copy = tmp_path / "elsewhere" / "AJ_1.journal"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "AJ_1.journal").read_bytes())  # as if the job had been killed here
    await Orphans(copy.parent, link).adopt_all()
    assert len(await history(bus)) == 1
    await outbox.close(5)


@pytest.mark.usefixtures("uncut")
async def test_file_of_refused_events_is_bounded(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "REFUSED_BYTES", 5_000_000)
    outbox = make_outbox(tmp_path, link)
    for number in range(1, 5):
        write(outbox, turn(number, "x" * 2_000_000))
    outbox.start()
    assert await outbox.close(30)
    assert not outbox.intact
    assert (tmp_path / "AJ_1.refused").stat().st_size < 5_000_000
    lost = [message for message in caplog.messages if message.startswith("outbox.refused_event_lost ")]
    assert len(lost) == 2
    assert "lost=2" in lost[1]


async def test_full_stream_delays_events_and_sets_none_aside(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Bus.publish
    attempts = 0

    async def refuse_twice(self: Bus, out: Outgoing, **named: Any) -> Ack:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise StreamFull("maximum bytes exceeded")
        return await published(self, out, **named)

    monkeypatch.setattr(Bus, "publish", refuse_twice)
    outbox = make_outbox(tmp_path, link)
    write(outbox, turn(1))
    outbox.start()
    assert await outbox.close(30)
    assert [event.producerseq for event in await history(bus)] == [1]
    assert files_in(tmp_path) == []
