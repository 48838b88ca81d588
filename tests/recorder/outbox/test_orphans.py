"""Journals that a killed job left behind are published by another process."""

import asyncio
import logging
import os
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
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Event
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Orphans, Outbox
from antiphon.recorder.outbox.records import EVENT, frame

SESSION = named_session_id("default", "orphans")

MARKER = b"\n\xffAJ"  # begins each record

JOB = """
import sys
from pathlib import Path
from antiphon.recorder.outbox import BusLink, Outbox
from antiphon.contracts.events.turn import TurnSaved

async def never(): ...

folder, session_id = Path(sys.argv[1]), sys.argv[2]
writer = Outbox(folder, BusLink(never), job_id="AJ_killed").writer(session_id, "default")
number = 0
while True:
    number += 1
    writer.write(TurnSaved(turn=number, agent_id="host"))
    if number == 500:
        print("written", flush=True)
"""


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="orphans"))
    yield link
    await link.close()


def write(outbox: Outbox, event: Event) -> None:
    outbox.writer(SESSION, "default").write(event)


async def numbers(bus: Bus) -> list[int]:
    return [
        decode(incoming.payload).producerseq
        async for incoming in bus.read(session_filter("default", SESSION))
    ]


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def killed_job(folder: Path) -> Path:
    """Kill a job while it writes; return its journal."""
    command = [sys.executable, "-c", JOB, str(folder), SESSION]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"written\n"
        os.kill(job.pid, signal.SIGKILL)
    (journal,) = folder.iterdir()
    return journal


async def test_journal_of_a_killed_job_is_published_completely_and_in_order(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    journal = await asyncio.to_thread(killed_job, tmp_path)
    complete = journal.read_bytes().count(MARKER) - 1  # the last one may be torn

    assert await Orphans(tmp_path, link).adopt_all() == 1

    published = await numbers(bus)
    assert published == list(range(1, len(published) + 1))
    assert len(published) in (complete, complete + 1)
    assert files_in(tmp_path) == []


async def test_torn_last_line_does_not_block_the_others(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    write(outbox, TurnSaved(turn=2, agent_id="host"))
    assert not await outbox.close(0)  # it never began to publish
    (journal,) = files_in(tmp_path)
    journal.write_bytes(journal.read_bytes()[:-20])

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1]
    assert files_in(tmp_path) == []


async def test_journal_of_a_running_job_is_not_adopted(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    assert await Orphans(tmp_path, link).adopt_all() == 0
    assert await numbers(bus) == []
    await outbox.close(0)


async def test_wake_adopts_at_once(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    orphans = Orphans(tmp_path, link)
    running = asyncio.create_task(orphans.run())
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    orphans.wake()
    async with asyncio.timeout(60):
        while await numbers(bus) != [1]:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
    running.cancel()


async def test_a_scan_waits_for_the_one_that_runs(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    await link.bus()
    await asyncio.to_thread(killed_job, tmp_path)
    orphans = Orphans(tmp_path, link)
    nats_server.kill()
    running = asyncio.create_task(orphans.run())
    await asyncio.sleep(0.3)
    last = asyncio.create_task(orphans.adopt_all())  # as a worker does that ends
    assert (await asyncio.wait([last], timeout=0.3))[0] == set()  # the journal is not published yet
    nats_server.start()
    async with asyncio.timeout(60):
        assert await last == 0
    running.cancel()
    assert await numbers(bus)
    assert files_in(tmp_path) == []


async def test_adoption_waits_for_the_broker(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    await link.bus()
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    nats_server.kill()
    adopting = asyncio.create_task(Orphans(tmp_path, link).adopt_all())
    await asyncio.sleep(0.3)
    nats_server.start()  # not in a thread: the server dies with the thread that started it
    async with asyncio.timeout(60):
        assert await adopting == 1
    assert await numbers(bus) == [1]


async def test_other_journals_are_adopted_beside_a_foreign_file(
    bus: Bus, link: BusLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = tmp_path / "a.journal"
    foreign.write_bytes(b"another program's\nfile\n")
    (tmp_path / "b.journal").mkdir()
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    orphans = Orphans(tmp_path, link)

    assert [await orphans.adopt_all(), await orphans.adopt_all()] == [1, 0]

    assert await numbers(bus) == [1]
    assert foreign.read_bytes() == b"another program's\nfile\n"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().split()[0] for record in errors] == [
        "orphans.adopt_failed"
    ] * 2  # one per file


async def test_line_that_is_not_an_event_is_set_aside_and_not_published(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path, link, job_id="AJ_1")
    write(outbox, TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    (journal,) = files_in(tmp_path)
    with journal.open("ab") as file:
        file.write(frame(EVENT, b"[]"))

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1]
    assert [file.suffix for file in files_in(tmp_path)] == [".refused"]


ADOPTER = (
    WITHOUT_LIVEKIT
    + """
print("ready", flush=True)
sys.stdin.readline()
adopted = [path.name for path in sorted(Path(sys.argv[2]).glob("*.journal")) if Journal.adopt(path)]
print(",".join(adopted), flush=True)
sys.stdin.readline()
"""
)


async def test_processes_never_adopt_the_same_journal(link: BusLink, tmp_path: Path) -> None:
    for job in range(20):
        outbox = Outbox(tmp_path, link, job_id=f"AJ_{job}")
        write(outbox, TurnSaved(turn=1, agent_id="host"))
        await outbox.close(0)

    adopted = await asyncio.to_thread(adopt_in_processes, tmp_path, 3)

    assert sorted(adopted) == [path.name for path in files_in(tmp_path)]


def adopt_in_processes(folder: Path, count: int) -> list[str]:
    """Return what several processes adopt at the same time."""
    command = [sys.executable, "-c", ADOPTER, str(PACKAGE), str(folder)]
    adopters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    names: list[str] = []
    for adopter in adopters:
        assert adopter.stdout is not None
        assert adopter.stdout.readline() == "ready\n"
    for adopter in adopters:
        assert adopter.stdin is not None
        adopter.stdin.write("go\n")
        adopter.stdin.flush()
    for adopter in adopters:
        assert adopter.stdout is not None
        names += [name for name in adopter.stdout.readline().strip().split(",") if name]
    for adopter in adopters:
        adopter.communicate("stop\n", timeout=10)
    return names
