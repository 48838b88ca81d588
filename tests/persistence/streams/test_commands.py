"""`persistence streams` with real processes: what an operator sees and does."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Bus, replace
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.streams.recreate import RECREATING
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, Replicas

pytestmark = pytest.mark.slow


async def streams(dsn: str, nats_url: str, *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and output."""
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": dsn, "ANTIPHON_NATS_URL": nats_url}
    command = (sys.executable, "-m", "antiphon.persistence", "streams", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, (out + err).decode()


async def test_a_lost_stream_is_reported_recreated_and_read_by_the_running_process(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_dsn: str,
    database: Database,
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    sessions = [new_session(f"lost {n}") for n in range(8)]
    calls = [[session.turn(n) for n in range(1, 9)] for session in sessions]
    persistence = replica()
    await persistence.start()
    await publish(envelope for call in calls for envelope in call[:4])
    await event_log.until(32, seconds=60)
    await persistence.until_ready(60)
    assert (await streams(postgres_dsn, nats_server.url, "status"))[0] == 0

    await bus.connection.api("STREAM.DELETE.SESSIONS")
    missing = "stream SESSIONS does not exist: run `python -m antiphon.persistence streams recreate`"
    await eventually(lambda: persistence.is_unready_because(missing), seconds=60)
    code, output = await streams(postgres_dsn, nats_server.url, "status")
    assert (code, missing in output) == (1, True)

    code, output = await streams(postgres_dsn, nats_server.url, "recreate")
    assert code == 0, output
    assert "it starts at position 33" in output
    await publish(envelope for call in calls for envelope in call[4:])
    await event_log.until(64, seconds=60)
    await persistence.until_ready(60)

    for session, call in zip(sessions, calls, strict=True):
        assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    report = await verify_log(database)
    assert (report.differences, report.verified) == ([], 64)
    code, output = await streams(postgres_dsn, nats_server.url, "status", "--json")
    assert code == 0
    assert [part["problem"] for part in json.loads(output)["partitions"]] == [None] * 16


async def test_a_process_that_starts_without_the_stream_creates_none(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_dsn: str,
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    session = new_session("lost before the start")
    first = replica()
    await first.start()
    await publish([session.requested()])
    await event_log.until(1, seconds=60)
    await first.end()
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    second = replica()
    await second.start()
    await eventually(lambda: second.is_unready_because("streams recreate"), seconds=60)
    assert await bus.stream_state() is None

    code, output = await streams(postgres_dsn, nats_server.url, "recreate")
    assert code == 0, output
    await second.until_ready(60)
    await publish([session.turn(1)])
    await event_log.until(2, seconds=60)


@pytest.mark.parametrize("step", ["closed", "created"])
async def test_a_process_that_starts_during_a_recreation_waits_for_its_end(
    step: str,
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_dsn: str,
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    session = new_session("closed")
    await publish([session.requested()])
    async with event_log.pool.acquire() as connection:
        for number in range(16):
            await connection.execute(
                "insert into checkpoints (name, epoch, stopped) values ($1, 1, $2)",
                f"ingest:{number}",
                RECREATING,
            )
    await replace.close_intake(bus.connection, SESSIONS)
    if step == "created":
        await replace.copy(bus.connection, [message async for message in bus.all_messages()])
        await replace.delete(bus.connection, SESSIONS.name)
        await replace.create_closed(bus.connection, SESSIONS, 1)

    persistence = replica()
    await persistence.start()
    await eventually(lambda: persistence.is_unready_because("run `streams recreate` again"), seconds=60)
    assert "startup.stream_missing" in persistence.log.read_text()

    code, output = await streams(postgres_dsn, nats_server.url, "recreate")
    assert code == 0, output
    await persistence.until_ready(60)
    await publish([session.turn(1)])
    await event_log.until(2, seconds=60)


async def test_a_process_without_a_log_creates_the_stream(
    bus: Bus, replica: "Replicas", postgres_dsn: str
) -> None:
    await bus.connection.api("STREAM.DELETE.SESSIONS")
    persistence = replica()
    await persistence.start()
    await persistence.until_ready(60)

    await bus.verify()


async def test_a_refusal_and_a_missing_server_exit_with_1(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer
) -> None:
    code, output = await streams(postgres_dsn, nats_server.url, "recreate")
    assert (code, "nothing to recreate" in output) == (1, True)
    code, output = await streams(postgres_dsn, "nats://127.0.0.1:1", "status")
    assert (code, "no NATS server answered" in output) == (1, True)
