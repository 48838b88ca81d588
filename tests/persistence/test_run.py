"""The process: it waits for its servers, refuses a wrong schema or stream, and ends gracefully."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.streams import AUDIT
from antiphon.persistence.migrations import head
from antiphon.persistence.projections import PROJECTIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, LogReader, NewSession, Publish, Replicas, RunningIngest


pytestmark = pytest.mark.slow


async def command(dsn: str, nats_url: str, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": dsn, "ANTIPHON_NATS_URL": nats_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.persistence", *arguments, env=environment, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_events_are_committed_and_seen_in_the_views(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    database: Database,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    session = new_session("whole")
    call = session.whole_call()
    persistence = replica()
    await persistence.start()
    await persistence.until_ready()
    await publish(call)
    await event_log.until(len(call))

    async def seen() -> bool:
        status = await database.pool.fetchval("select status from sessions")
        return (status, await database.pool.fetchval("select count(*) from turns")) == ("closed", 3)

    await eventually(seen)
    status, body = await persistence.health()
    assert (status, set(body["checks"])) == (
        200,
        {
            "start",
            "postgres",
            "postgres views",
            "nats",
            "leases",
            "test sessions",
            "ingest",
            "views",
            *(f"projection {projection.name}" for projection in PROJECTIONS),
        },
    )


async def test_sigterm_finishes_and_acknowledges_the_current_batch(
    bus: Bus, publish: "Publish", replica: "Replicas", event_log: "LogReader", new_session: "NewSession"
) -> None:
    session = new_session("sigterm")
    persistence = replica()
    await persistence.start()
    await persistence.until_ready()
    await publish(session.turn(n) for n in range(1, 2001))
    await event_log.until(1)

    assert await persistence.end(signal.SIGTERM) == 0

    position = await event_log.pool.fetchval("select max(position) from checkpoints")
    assert position == await event_log.pool.fetchval("select max(position) from event_log")
    info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.ingest-{session.partition}")
    assert info["ack_floor"]["stream_seq"] == position  # everything committed is acknowledged


async def test_a_second_replica_is_ready_and_takes_over(
    bus: Bus, publish: "Publish", replica: "Replicas", event_log: "LogReader", new_session: "NewSession"
) -> None:
    sessions = [new_session(f"handed over {n}") for n in range(8)]
    calls = [session.whole_call(turns=4) for session in sessions]
    first, second = replica(), replica()
    await first.start()
    await first.until_ready()
    await publish([envelope for call in calls for envelope in call[:5]])
    await event_log.until(40)
    await second.start()
    await second.until_ready()

    await first.end(signal.SIGKILL)
    await publish([envelope for call in calls for envelope in call[5:]])
    await event_log.until(80)

    for session, call in zip(sessions, calls, strict=True):
        assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]


async def test_it_is_unready_until_postgres_answers(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    postgres_server: Postgres,
    eventually: "Eventually",
) -> None:
    postgres_server.stop()
    persistence = replica()
    await persistence.start()
    await eventually(lambda: persistence.is_unready_because("refused"), seconds=40)

    postgres_server.start()
    await persistence.until_ready(60)
    await publish([new_session("after").requested()])
    await event_log.until(1)


async def test_it_is_unready_until_nats_answers(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    nats_server: NatsServer,
    eventually: "Eventually",
) -> None:
    nats_server.stop()
    persistence = replica()
    await persistence.start()
    await eventually(lambda: persistence.is_unready_because("no NATS server answered"), seconds=40)

    nats_server.start()
    await persistence.until_ready(60)
    again = await Bus.connect(nats_server.url, name="again")
    await again.publish(outgoing(new_session("after").requested()))
    await again.close()
    await event_log.until(1)


async def test_crashes_of_postgres_lose_no_event_and_no_row(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    database: Database,
    postgres_server: Postgres,
    new_session: "NewSession",
    eventually: "Eventually",
) -> None:
    """The views do not wait for fsync: work lost in a crash is projected again."""
    sessions = [new_session(f"crash {n}") for n in range(10)]
    calls = [[session.turn(n) for n in range(1, 201)] for session in sessions]
    persistence = replica()
    await persistence.start()
    await persistence.until_ready()
    for start in range(0, 200, 50):
        await publish(envelope for call in calls for envelope in call[start : start + 50])
        await event_log.until(10 * start + 100)
        postgres_server.kill()
        postgres_server.start()
    await event_log.until(2000, seconds=60)

    async def folded() -> bool:
        turns = await database.pool.fetchval("select count(*) from turns")
        return (turns, await database.pool.fetchval("select sum(sequence) from sessions")) == (2000, 2000)

    await eventually(folded, seconds=60)
    for session, call in zip(sessions, calls, strict=True):
        assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    await persistence.until_ready()


async def test_it_refuses_another_schema_revision(bus: Bus, replica: "Replicas", database: Database) -> None:
    await database.pool.execute("update alembic_version set version_num = '0000'")
    persistence = replica()
    await persistence.start()

    assert await asyncio.wait_for(persistence.process.wait(), 30) == 1
    assert (
        f"The database is at schema revision 0000, this version needs {head()}: "
        "run `python -m antiphon.persistence migrate` first." in persistence.log.read_text()
    )


async def test_it_runs_with_a_newer_schema_that_declares_itself_compatible(
    bus: Bus, publish: "Publish", replica: "Replicas", event_log: "LogReader", new_session: "NewSession"
) -> None:
    """In a rolling upgrade the old version restarts after the new one has migrated."""
    await event_log.pool.execute("update alembic_version set version_num = '9000'")
    await event_log.pool.execute("update schema_compatibility set compatible_from = $1", head())
    persistence = replica()
    await persistence.start()
    await persistence.until_ready()
    await publish([new_session("rolling").requested()])

    await event_log.until(1, seconds=60)


async def test_it_refuses_a_stream_that_differs_from_its_definition(bus: Bus, replica: "Replicas") -> None:
    await erase(bus)
    await bus.connection.api("STREAM.CREATE.SESSIONS", {"name": "SESSIONS", "subjects": ["sessions.>"]})
    persistence = replica()
    await persistence.start()

    assert await asyncio.wait_for(persistence.process.wait(), 30) == 1
    assert (
        "The streams of the broker do not match the contract: stream SESSIONS" in persistence.log.read_text()
    )
    await erase(bus)


async def test_a_broker_with_too_little_disk_is_explained_in_a_line(
    replica: "Replicas", tmp_path: Path
) -> None:
    small = NatsServer(tmp_path / "small", max_store_bytes=AUDIT.max_bytes + (10 << 20))
    small.start()
    persistence = replica()
    persistence.environment["ANTIPHON_NATS_URL"] = small.url
    await persistence.start()

    assert await asyncio.wait_for(persistence.process.wait(), 60) == 1
    small.stop()
    output = persistence.log.read_text()
    [line] = [line for line in output.splitlines() if "The broker refuses the stream SESSIONS" in line]
    assert "insufficient storage resources" in line
    assert "The stream reserves 8.0 GiB, other streams reserve 256 MiB" in line
    assert "or set ANTIPHON_STREAM_MAX_BYTES to less" in line
    assert "Traceback" not in output
    assert "ExceptionGroup" not in output


async def test_the_stream_may_be_made_to_fit_a_small_broker(replica: "Replicas", tmp_path: Path) -> None:
    small = NatsServer(tmp_path / "small", max_store_bytes=AUDIT.max_bytes + (10 << 20))
    small.start()
    persistence = replica()
    persistence.environment |= {"ANTIPHON_NATS_URL": small.url, "ANTIPHON_STREAM_MAX_BYTES": str(2 << 20)}
    await persistence.start()
    await persistence.until_ready()

    bus = await Bus.connect(small.url)
    info = await bus.connection.api("STREAM.INFO.SESSIONS")
    assert info["config"]["max_bytes"] == 2 << 20
    await bus.close()
    assert await persistence.end() == 0
    small.stop()


async def test_a_wrong_setting_is_named(postgres_dsn: str, nats_server: NatsServer) -> None:
    code, _, output = await command("mysql://nowhere", nats_server.url, "run")
    assert code == 2
    assert "ANTIPHON_POSTGRES_DSN is (hidden): must start with postgresql://" in output


@pytest.mark.parametrize("what", ["behind", "caught up"])
async def test_status_shows_the_progress_of_ingest_and_projections(
    what: str,
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    replica: "Replicas",
    event_log: "LogReader",
    postgres_dsn: str,
    nats_server: NatsServer,
    new_session: "NewSession",
) -> None:
    session = new_session("status")
    await publish([session.requested(), session.turn(1)])
    await bus.publish_many([])
    if what == "caught up":
        ingest.start(session.partition)
        await event_log.until(2)
        await ingest.end()

    code, out, _ = await command(postgres_dsn, nats_server.url, "status", "--json")
    found = json.loads(out)
    mine = found["partitions"][session.partition]

    assert (code, len(found["partitions"]), found["schema_revision"]) == (0, 16, head())
    assert (mine["checkpoint"], mine["head"], mine["caught_up"]) == (
        (2, 2, True) if what == "caught up" else (0, 2, False)
    )
    behind = 2 if what == "caught up" else 0
    assert found["projections"]
    assert {view["lag"]["events"] for view in found["projections"]} == {behind}
    assert found["dead_letters"]["count"] == 0

    code, out, _ = await command(postgres_dsn, nats_server.url, "status")
    assert code == 0
    assert ("2 events behind" in out) == (what == "behind")


async def test_status_counts_dead_letters_by_tenant(
    bus: Bus,
    ingest: "RunningIngest",
    new_session: "NewSession",
    eventually: "Eventually",
    event_log: "LogReader",
    postgres_dsn: str,
    nats_server: NatsServer,
) -> None:
    session = new_session("dead letters")
    for number, tenant in enumerate(("acme", "acme", "NOT-ONE")):
        subject = f"sessions.{session.partition}.{tenant}.{session.session_id}.turn"
        await bus.publish(Outgoing(subject, b"wrong", f"raw {number}"))
    ingest.start(session.partition)

    async def three() -> bool:
        return len(await event_log.dead_letters()) == 3

    await eventually(three)
    _, out, _ = await command(postgres_dsn, nats_server.url, "status", "--json")
    _, text, _ = await command(postgres_dsn, nats_server.url, "status")

    assert json.loads(out)["dead_letters"]["by_tenant"] == {"acme": 2, "unknown": 1}
    assert "2 of tenant acme" in text


async def test_status_shows_gaps_and_stopped_partitions(
    bus: Bus, database: Database, postgres_dsn: str, nats_server: NatsServer
) -> None:
    await database.pool.execute("insert into checkpoints (name, stopped) values ('ingest:3', 'for a reason')")
    await database.pool.execute("insert into log_gaps values (3, 7, 9, 'dropped')")

    code, out, _ = await command(postgres_dsn, nats_server.url, "status")

    assert code == 0
    assert "! ingest of partitions 3 is stopped: for a reason" in out
    assert "gap: partition 3, positions 7 to 9: dropped" in out


async def test_status_names_the_replica_that_holds_each_partition_and_view(
    bus: Bus, replica: "Replicas", postgres_dsn: str, nats_server: NatsServer, eventually: "Eventually"
) -> None:
    persistence = replica()
    await persistence.start()

    async def holds_all() -> bool:
        status, body = await persistence.health()
        return status == 200 and "waits" not in body["checks"]["leases"]["detail"]

    await eventually(holds_all, seconds=60)
    _, out, _ = await command(postgres_dsn, nats_server.url, "status", "--json")
    found = json.loads(out)

    holders = {each["holder"] for each in found["partitions"]}
    holders |= {holder for view in found["projections"] for holder in view["holders"]}
    [holder] = holders
    assert holder.startswith("persistence leases ")
    assert f":{persistence.process.pid} from 127.0.0.1" in holder


async def test_status_of_a_database_without_schema_names_the_command(
    nats_server: NatsServer, postgres_server: Postgres, postgres_dsn: str
) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("drop table alembic_version")
    await connection.close()

    code, _, output = await command(postgres_dsn, nats_server.url, "status")
    assert code == 1
    assert "run `python -m antiphon.persistence migrate`" in output
