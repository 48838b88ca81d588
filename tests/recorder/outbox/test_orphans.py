"""What a killed job has written reaches the log through the worker."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import decode
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import session_id_for_key
from antiphon.contracts.subjects import session_filter
from antiphon.recorder.outbox import BusLink, Orphans, Outbox

SESSION = session_id_for_key("default", "orphans")

JOB = """
import sys
from pathlib import Path
from antiphon.recorder.outbox import BusLink, Outbox
from antiphon.contracts.events.turn import TurnSaved

async def never(): ...

folder, session_id = Path(sys.argv[1]), sys.argv[2]
outbox = Outbox(folder, BusLink(never), session_id=session_id, tenant="default", job_id="AJ_killed")
number = 0
while True:
    number += 1
    outbox.write(TurnSaved(turn=number, agent_id="host"))
    if number == 500:
        print("written", flush=True)
"""


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url, name="orphans"))
    yield link
    await link.close()


async def numbers(bus: Bus) -> list[int]:
    return [
        decode(incoming.payload).producerseq
        async for incoming in bus.read(session_filter("default", SESSION))
    ]


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def killed_job(folder: Path) -> Path:
    """Kill a job in the middle of its writing; return its journal."""
    command = [sys.executable, "-c", JOB, str(folder), SESSION]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"written\n"
        os.kill(job.pid, signal.SIGKILL)
    (journal,) = folder.iterdir()
    return journal


async def test_the_journal_of_a_killed_job_is_published_whole_and_in_order(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    journal = await asyncio.to_thread(killed_job, tmp_path)
    whole = journal.read_bytes().split(b"\0")[0].count(b"\n") - 1  # the first line is the journal's own

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == list(range(1, whole + 1))
    assert files_in(tmp_path) == []


async def test_a_torn_last_line_does_not_hold_up_the_others(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, link, session_id=SESSION, tenant="default", job_id="AJ_1")
    outbox.write(TurnSaved(turn=1, agent_id="host"))
    outbox.write(TurnSaved(turn=2, agent_id="host"))
    assert not await outbox.close(0)  # it never began to publish
    (journal,) = files_in(tmp_path)
    journal.write_bytes(journal.read_bytes().rstrip(b"\0")[:-20])

    assert await Orphans(tmp_path, link).adopt_all() == 1

    assert await numbers(bus) == [1]
    assert files_in(tmp_path) == []


async def test_the_journal_of_a_living_job_is_left_alone(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, link, session_id=SESSION, tenant="default", job_id="AJ_1")
    outbox.write(TurnSaved(turn=1, agent_id="host"))
    assert await Orphans(tmp_path, link).adopt_all() == 0
    assert await numbers(bus) == []
    await outbox.close(0)


async def test_a_job_that_ends_is_looked_after_at_once(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    orphans = Orphans(tmp_path, link)
    running = asyncio.create_task(orphans.run())
    outbox = Outbox(tmp_path, link, session_id=SESSION, tenant="default", job_id="AJ_1")
    outbox.write(TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    orphans.look()
    async with asyncio.timeout(5):
        while await numbers(bus) != [1]:  # noqa: ASYNC110 - the broker says nothing by itself
            await asyncio.sleep(0.02)
    running.cancel()


async def test_a_broker_that_is_away_is_waited_for(
    bus: Bus, link: BusLink, nats_server: NatsServer, tmp_path: Path
) -> None:
    await link.bus()
    outbox = Outbox(tmp_path, link, session_id=SESSION, tenant="default", job_id="AJ_1")
    outbox.write(TurnSaved(turn=1, agent_id="host"))
    await outbox.close(0)
    nats_server.kill()
    adopting = asyncio.create_task(Orphans(tmp_path, link).adopt_all())
    await asyncio.sleep(0.3)
    nats_server.start()  # here: the server dies with the thread that has started it
    async with asyncio.timeout(60):
        assert await adopting == 1
    assert await numbers(bus) == [1]
