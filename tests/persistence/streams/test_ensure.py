"""`persistence streams ensure`: what `run` makes in the broker is there before the services start."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import BUCKETS, CONSUMERS, SESSIONS
from antiphon.persistence.settings import EnsureSettings
from antiphon.persistence.streams import ensure

MIB = 1 << 20
MADE = f"Stream {SESSIONS.name}, {len(CONSUMERS)} consumers, {len(BUCKETS)} buckets."


async def ensured(dsn: str, nats_url: str, **variables: str) -> tuple[int, str]:
    """Run the command; return its exit code and output."""
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": dsn, "ANTIPHON_NATS_URL": nats_url, **variables}
    command = (sys.executable, "-m", "antiphon.persistence", "streams", "ensure")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, (out + err).decode()


async def test_everything_is_made_once_with_the_settings_of_run(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer
) -> None:
    await erase(bus)
    size = {"ANTIPHON_STREAM_MAX_BYTES": str(64 * MIB), "ANTIPHON_NATS_REPLICAS": "1"}

    first, again = [await ensured(postgres_dsn, nats_server.url, **size) for _ in range(2)]

    assert first == again == (0, MADE + "\n")
    await bus.verify(replicas=1)
    state = await bus.stream_state()
    assert state is not None
    assert state.max_bytes == 64 * MIB
    assert await bus.undelivered(CONSUMERS[-1]) == 0


async def test_more_copies_than_the_broker_can_keep_are_refused(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer
) -> None:
    await erase(bus)

    code, output = await ensured(postgres_dsn, nats_server.url, ANTIPHON_NATS_REPLICAS="3")

    assert code == 1
    assert "It may have fewer servers than ANTIPHON_NATS_REPLICAS" in output
    assert "Traceback" not in output


async def test_buckets_with_another_number_of_copies_are_refused(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer
) -> None:
    code, output = await ensured(postgres_dsn, nats_server.url, ANTIPHON_NATS_REPLICAS="3")

    assert code == 1
    assert "stream KV_keys: num_replicas is 1, not 3" in output
    assert "Traceback" not in output


async def test_a_stream_that_was_read_and_is_lost_is_not_made(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer, database: Database
) -> None:
    await database.pool.execute("insert into checkpoints (name, epoch, position) values ('ingest:0', 1, 7)")
    await erase(bus)

    code, output = await ensured(postgres_dsn, nats_server.url)

    assert code == 0  # the services start, and say the same
    assert "does not exist, and was read: run `python -m antiphon.persistence streams recreate`" in output
    assert await bus.stream_state() is None
    assert await bus.has_bucket("flows")


async def test_a_server_that_does_not_answer_is_named(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensure, "WAIT_SECONDS", 1.0)
    settings = EnsureSettings(ANTIPHON_POSTGRES_DSN=postgres_dsn, ANTIPHON_NATS_URL="nats://127.0.0.1:1")

    with pytest.raises(SystemExit) as refused:
        await ensure.ensure(settings)

    assert "After 1 s, nats" in str(refused.value)
    assert "Run it again." in str(refused.value)


async def test_a_database_that_was_not_migrated_is_refused(
    bus: Bus, postgres_dsn: str, nats_server: NatsServer, database: Database
) -> None:
    await database.pool.execute("drop table alembic_version")

    code, output = await ensured(postgres_dsn, nats_server.url)

    assert code == 1
    assert "migrate" in output
    assert "Traceback" not in output
