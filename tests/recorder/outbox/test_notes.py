"""What a killed job had noted and not written is published by the process that adopts its journal."""

import asyncio
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from tests.recorder.outbox.journal_process import PACKAGE, WITHOUT_LIVEKIT

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Journal, Orphans, Outbox, journal, outbox
from antiphon.recorder.outbox.notes import LeftNotes

SESSION = named_session_id("default", "notes")
OTHER = named_session_id("default", "other notes")


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="notes"))
    yield link
    await link.close()


def turn(number: int, text: str = "") -> TurnSaved:
    return TurnSaved(turn=number, agent_id="host", assistant_text=text)


def spoken(number: int, text: str) -> TurnSaved:
    return TurnSaved(turn=number, agent_id="host", assistant_text=text, recovered=True)


async def history(bus: Bus, session: str = SESSION) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(session_filter("default", session))]


async def texts(bus: Bus, session: str = SESSION) -> list[tuple[str | None, bool]]:
    events = [open_event(envelope) for envelope in await history(bus, session)]
    return [(e.assistant_text, e.recovered) for e in events if isinstance(e, TurnSaved)]


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def left_notes(path: Path) -> list[Envelope]:
    journal = Journal.adopt(path)
    assert journal is not None
    notes = LeftNotes()
    for record in journal.scan():
        notes.see(record)
    journal.release()
    return [decode(line) for line in notes.events()]


async def test_last_note_of_a_killed_job_is_published_after_its_events(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    writer.write(turn(1, "one"))
    writer.note("turn:AJ_1:2", spoken(2, "It "), at=1_700_000_000.25)
    writer.note("turn:AJ_1:2", spoken(2, "It is "), at=1_700_000_000.5)
    writer.write(turn(1, "between"))
    await job.close(0)  # as after a kill: nothing is published

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await texts(bus) == [("one", False), ("between", False), ("It is ", True)]
    note = (await history(bus))[-1]
    assert note.id == f"{SESSION}:agent:AJ_1:note:turn:AJ_1:2"
    assert note.producerseq == 3
    assert note.time.timestamp() == 1_700_000_000.5
    assert files_in(tmp_path) == []


async def test_settled_note_is_not_published(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    writer.note("turn:AJ_1:1", spoken(1, "It "))
    writer.note("turn:AJ_1:2", spoken(2, "Next "))
    writer.write(turn(1, "It is seven."), settles="turn:AJ_1:1")
    await job.close(0)

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await texts(bus) == [("It is seven.", False), ("Next ", True)]


async def test_notes_of_a_running_job_are_never_published(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    job.start()
    for number in range(1, 20):
        writer.note(f"turn:AJ_1:{number}", spoken(number, "It "))
        writer.write(turn(number, "It is seven."), settles=f"turn:AJ_1:{number}")
    assert await job.close(20)

    assert await texts(bus) == [("It is seven.", False)] * 19
    assert await Orphans(tmp_path, link).adopt_all() == 0
    assert files_in(tmp_path) == []


async def test_notes_before_the_acknowledged_events_are_found(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    writer.note("turn:AJ_1:1", spoken(1, "It "))
    writer.write(turn(1, "published"))
    job.start()
    assert await job.flush(20)
    copy = tmp_path / "elsewhere" / "AJ_1.journal"
    copy.parent.mkdir()
    shutil.copy(tmp_path / "AJ_1.journal", copy)  # as if the job had been killed here

    await Orphans(copy.parent, link).adopt_all()

    assert await texts(bus) == [("published", False), ("It ", True)]
    await job.close(5)


async def test_sessions_of_one_job_are_numbered_and_completed_apart(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    one, other = job.writer(SESSION, "default"), job.writer(OTHER, "default")
    assert job.writer(SESSION, "default") is one
    for number in range(1, 4):
        one.write(turn(number))
    other.write(turn(1))
    one.note("turn:AJ_1:4", spoken(4, "one"))
    other.note("turn:AJ_1:4", spoken(4, "other"))
    other.write(turn(5), settles="of another session")
    await job.close(0)

    await Orphans(tmp_path, link).adopt_all()

    assert [event.producerseq for event in await history(bus)] == [1, 2, 3, 4]
    assert [event.producerseq for event in await history(bus, OTHER)] == [1, 2, 3]
    assert (await texts(bus))[-1] == ("one", True)
    assert (await texts(bus, OTHER))[-1] == ("other", True)


async def test_journal_that_is_adopted_twice_gives_the_same_events(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    writer.write(turn(1))
    writer.note("turn:AJ_1:2", spoken(2, "It is "))
    await job.close(0)
    copy = (tmp_path / "AJ_1.journal").read_bytes()
    for _ in range(2):
        (tmp_path / "AJ_1.journal").write_bytes(copy)
        assert await Orphans(tmp_path, link).adopt_all() == 1

    assert len({event.id for event in await history(bus)}) == len(await history(bus)) == 2


async def test_rewritten_journal_keeps_unread_events_and_live_notes(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SHRINK_BYTES", 20_000)
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    writer.note("turn:AJ_1:0", spoken(1, "live since the beginning"), at=1_700_000_000.0)
    job.start()
    sizes = []
    for number in range(1, 1001):
        writer.note(f"turn:AJ_1:{number}", spoken(number, "part"))
        writer.write(turn(number, "whole"), settles=f"turn:AJ_1:{number}")
        if number % 20 == 0:
            assert await job.flush(20)
            sizes.append((tmp_path / "AJ_1.journal").stat().st_size)
    assert max(sizes) < 60_000
    writer.write(turn(1001, "not published"))
    copy = tmp_path / "elsewhere" / "AJ_1.journal"
    copy.parent.mkdir()
    shutil.copy(tmp_path / "AJ_1.journal", copy)
    await job.close(20)

    (note,) = left_notes(copy)
    assert note.producerseq == 1002
    assert note.time.timestamp() == 1_700_000_000.0
    assert [event.producerseq for event in await history(bus)] == list(range(1, 1002))


async def test_batch_that_is_under_way_during_a_rewrite_is_acknowledged_rightly(tmp_path: Path) -> None:
    kept = Journal.create(tmp_path / "AJ_1.journal")
    for number in range(10):
        kept.append(b"%d" % number)
    first = kept.next_batch(4)
    assert first is not None
    kept.acknowledge(first)
    second = kept.next_batch(4)
    assert second is not None
    kept.shrink([(b"key", b"{}")])
    kept.append(b"10")
    kept.acknowledge(second)
    third = kept.next_batch(4)
    assert third is not None
    assert third.lines == [b"8", b"9", b"10"]
    kept.release()
    again = Journal.adopt(kept.path)
    assert again is not None
    assert [record.payload for record in again.scan()][-4:] == [b"8", b"9", b"{}", b"10"]


async def test_oldest_of_very_many_notes_is_forgotten(
    link: BusLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Outbox(tmp_path, link, job_id="AJ_1").writer(SESSION, "default")
    for number in range(1, outbox.LIVE_NOTES + 3):
        writer.note(f"turn:AJ_1:{number}", spoken(number, ""))
    assert len(list(writer.live_notes())) == outbox.LIVE_NOTES
    assert [message.split()[0] for message in caplog.messages] == ["outbox.note_forgotten"] * 2


JOB = """
import asyncio, sys
from functools import partial
from pathlib import Path
from antiphon.chassis.bus import Bus
from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.outbox import BusLink, Orphans, Outbox, journal

journal.SHRINK_BYTES = 20_000

async def job(folder, url, session_id):
    outbox = Outbox(folder, BusLink(partial(Bus.connect, url)), job_id="AJ_1")
    outbox.start()
    writer = outbox.writer(session_id, "default")
    number = 0
    while True:
        number += 1
        for part in range(4):
            noted = TurnSaved(turn=number, agent_id="host", assistant_text=str(part), recovered=True)
            writer.note(f"turn:AJ_1:{number}", noted)
        print(number, flush=True)
        writer.write(TurnSaved(turn=number, agent_id="host"), settles=f"turn:AJ_1:{number}")
        await asyncio.sleep(0.002)

async def adopt(folder, url, session_id):
    print("adopting", flush=True)
    await Orphans(folder, BusLink(partial(Bus.connect, url))).adopt_all()

asyncio.run(globals()[sys.argv[2]](Path(sys.argv[3]), sys.argv[4], sys.argv[5]))
"""


async def test_killed_jobs_and_killed_adopters_leave_each_turn_once(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Kill a job that speaks, then several processes that adopt its journal, at any moment."""
    for attempt in range(4):
        session = named_session_id("default", f"killed {attempt}")
        arguments = (str(PACKAGE), "{}", str(tmp_path), nats_server.url, session)
        begun = await asyncio.to_thread(killed_job, arguments)
        for _ in range(4):
            await asyncio.to_thread(killed_adopter, arguments)
        await Orphans(tmp_path, link).adopt_all()

        events = await history(bus, session)
        turns = [event for event in map(open_event, events) if isinstance(event, TurnSaved)]
        assert [turn.turn for turn in turns] == list(range(1, len(turns) + 1))
        assert len(turns) >= begun
        assert not any(turn.recovered for turn in turns[:-1])
        assert [event.producerseq for event in events] == list(range(1, len(events) + 1))
        assert files_in(tmp_path) == []


def started(arguments: tuple[str, ...], what: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WITHOUT_LIVEKIT + JOB, *(a.format(what) for a in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def killed_job(arguments: tuple[str, ...]) -> int:
    """Kill a job in the middle of a turn; return the last one that it reported to have begun."""
    with started(arguments, "job") as job:
        assert job.stdout is not None
        begun = 0
        for _ in range(200 + random.randrange(100)):
            begun = int(job.stdout.readline())
        os.kill(job.pid, signal.SIGKILL)
        return begun


def killed_adopter(arguments: tuple[str, ...]) -> None:
    with started(arguments, "adopt") as adopter:
        assert adopter.stdout is not None
        adopter.stdout.readline()
        try:
            adopter.wait(random.random() * 0.08)
        except subprocess.TimeoutExpired:
            os.kill(adopter.pid, signal.SIGKILL)


async def test_note_stays_void_when_the_disk_was_full_while_it_was_settled(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Outbox(tmp_path, link, job_id="AJ_1")
    writer = job.writer(SESSION, "default")
    job.start()
    for number in (1, 2):
        writer.note(f"turn:AJ_1:{number}", spoken(number, "It "))
    write, full = os.pwrite, True

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    for number in (1, 2):
        writer.write(turn(number, "It is seven."), settles=f"turn:AJ_1:{number}")
        assert await job.flush(20)
    full = False
    writer.note("turn:AJ_1:3", spoken(3, "Next "))
    copy = tmp_path / "elsewhere" / "AJ_1.journal"
    copy.parent.mkdir()
    shutil.copy(tmp_path / "AJ_1.journal", copy)  # as if the job had been killed here
    assert await job.close(20)

    await Orphans(copy.parent, link).adopt_all()

    assert await texts(bus) == [("It is seven.", False), ("It is seven.", False), ("Next ", True)]
