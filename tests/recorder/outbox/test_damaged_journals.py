"""Damaged journals and files that are none: nothing intact is lost, and the process goes on."""

import asyncio
import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode, encode, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Orphans, Outbox, utc_now
from antiphon.recorder.outbox.records import frame

SESSION = named_session_id("default", "damaged")


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="damaged"))
    yield link
    await link.close()


async def numbers(bus: Bus) -> list[int]:
    stored = bus.read(session_filter("default", SESSION))
    return [decode(incoming.payload).producerseq async for incoming in stored]


def event(number: int) -> bytes:
    return encode(
        seal(
            TurnSaved(turn=number, agent_id="host"),
            id=agent_event_id(SESSION, "AJ_1", number),
            session_id=SESSION,
            tenant="default",
            producer="agent",
            producerseq=number,
            time=utc_now(),
        )
    )


async def left_journal(folder: Path, link: BusLink, events: int = 3, job_id: str = "AJ_1") -> Path:
    """Return the journal of a job that ended before it could publish."""
    outbox = Outbox(folder, link, job_id=job_id)
    writer = outbox.writer(SESSION, "default")
    for number in range(1, events + 1):
        writer.write(TurnSaved(turn=number, agent_id="host"))
    await outbox.close(0)
    return folder / f"{job_id}.journal"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage().split()[0] for r in caplog.records if r.levelno >= logging.ERROR]


async def test_events_around_a_damaged_one_are_published_and_the_file_is_kept(
    bus: Bus, link: BusLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = await left_journal(tmp_path, link)
    content = bytearray(journal.read_bytes())
    content[content.index(b'"turn":2') + 3] ^= 1
    journal.write_bytes(content)
    journal.chmod(0o644)

    orphans = Orphans(tmp_path, link)
    assert [await orphans.adopt_all(), await orphans.adopt_all()] == [1, 0]

    assert await numbers(bus) == [1, 3]
    assert files_in(tmp_path) == ["AJ_1.damaged"]
    kept = tmp_path / "AJ_1.damaged"
    assert len(kept.read_bytes()) == len(content)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert errors(caplog) == ["journal.damaged"]
    assert "parts=1" in caplog.text


async def test_damaged_last_event_keeps_the_file(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    journal = await left_journal(tmp_path, link)
    content = bytearray(journal.read_bytes())
    content[-4] ^= 8
    journal.write_bytes(content)

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1, 2]
    assert files_in(tmp_path) == ["AJ_1.damaged"]


@pytest.mark.parametrize("offset", [b"9", b"x", b"\xff", b"1"])
async def test_damaged_offset_in_the_header_publishes_everything_again(
    bus: Bus, link: BusLink, tmp_path: Path, offset: bytes
) -> None:
    journal = await left_journal(tmp_path, link)
    content = bytearray(journal.read_bytes())
    place = content.index(b" ") + 12
    content[place : place + 1] = offset  # an offset beyond the end looks like a published journal
    journal.write_bytes(content)

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1, 2, 3]
    assert files_in(tmp_path) == ["AJ_1.damaged"]


async def test_each_damaged_file_is_kept(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    for _ in range(3):
        journal = await left_journal(tmp_path, link)
        journal.write_bytes(journal.read_bytes()[:-30] + b"?" * 30)
        await Orphans(tmp_path, link).adopt_all()
    assert files_in(tmp_path) == ["AJ_1.damaged", "AJ_1.damaged2", "AJ_1.damaged3"]


async def test_running_job_goes_on_when_its_own_journal_is_damaged(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    writer = outbox.writer(SESSION, "default")
    for number in range(1, 4):
        writer.write(TurnSaved(turn=number, agent_id="host"))
    with (tmp_path / "AJ_1.journal").open("r+b") as file:
        file.seek((tmp_path / "AJ_1.journal").read_bytes().index(b'"turn":2'))
        file.write(b"?")
    outbox.start()
    writer.write(TurnSaved(turn=4, agent_id="host"))

    assert await outbox.close(20)
    assert not outbox.intact

    assert await numbers(bus) == [1, 3, 4]
    assert files_in(tmp_path) == ["AJ_1.damaged"]


async def test_strange_files_end_nothing_are_logged_once_and_left_alone(
    bus: Bus, link: BusLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(frame(b"E", event(9)))
    folder = tmp_path / "journals"
    journal = await left_journal(folder, link, job_id="z_good")
    (folder / "a.journal").mkdir()
    os.mkfifo(folder / "b.journal")
    (folder / "c.journal").symlink_to(outside)
    (folder / "d.journal").write_bytes(b"another program's\nfile\n" * 1000)
    (folder / "e.journal").symlink_to(folder / "missing")
    (folder / "f\udcff.journal").write_bytes(b"x" * 100)
    with (folder / "g.journal").open("wb") as huge:
        huge.truncate(300_000_000)  # of zeros, as a power failure can leave
    before = files_in(folder)
    orphans = Orphans(folder, link)

    assert [await orphans.adopt_all(), await orphans.adopt_all()] == [1, 0]

    assert await numbers(bus) == [1, 2, 3]
    assert files_in(folder) == [name for name in before if name != journal.name]
    assert errors(caplog) == ["orphans.adopt_failed"] * 7


async def test_empty_file_is_removed(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    (tmp_path / "AJ_1.journal").touch()
    assert await Orphans(tmp_path, link).adopt_all() == 1
    assert files_in(tmp_path) == []


async def test_orphans_outlive_a_folder_that_is_none(link: BusLink, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    running = asyncio.create_task(Orphans(tmp_path / "file", link).run())
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()


async def test_journal_that_cannot_be_removed_is_published_once(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = await left_journal(tmp_path, link)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    orphans = Orphans(tmp_path, link)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", read_only)
        assert [await orphans.adopt_all(), await orphans.adopt_all()] == [1, 0]
    assert await numbers(bus) == [1, 2, 3]
    assert journal.exists()
    assert errors(caplog) == ["journal.remove_failed"]


async def test_journal_in_the_earlier_format_is_published(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    header = b"antiphon-journal-1 %020d\n"
    lines = [event(number) + b"\n" for number in range(1, 6)]
    published = len(header % 0) + len(lines[0])
    path = tmp_path / f"{SESSION}.AJ_1.journal"
    path.write_bytes(header % published + b"".join(lines) + b'{"torn')

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [2, 3, 4, 5]
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("offset", [b"%020d" % 7, b"%020d" % 10**9, b"9" * 20, b"garbage             "])
async def test_journal_in_the_earlier_format_with_a_wrong_offset_is_published_whole(
    bus: Bus, link: BusLink, tmp_path: Path, offset: bytes
) -> None:
    path = tmp_path / "AJ_1.journal"
    path.write_bytes(b"antiphon-journal-1 " + offset + b"\n" + event(1) + b"\n" + event(2) + b"\n")

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1, 2]


async def test_event_that_nats_cannot_carry_is_set_aside(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    writer = outbox.writer(SESSION, "default")
    writer.write(TurnSaved(turn=1, agent_id="host"))
    writer.traceparent = "00-broken\r\nNats-Msg-Id: x"
    writer.write(TurnSaved(turn=2, agent_id="host"))
    writer.traceparent = None
    writer.write(TurnSaved(turn=3, agent_id="host"))
    await outbox.close(0)

    assert await Orphans(tmp_path, link).adopt_all() == 1

    published = await numbers(bus)
    assert set(published) >= {1, 3}
