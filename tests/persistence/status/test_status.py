"""The status names lag, owners, builds and stalled views, and what to do; it never reads the whole log."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.fixtures import synthetic_log
from tests.fixtures.nats_servers import ConfiguredServer

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.projection.checkpoint import Stalled
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import shadow
from antiphon.persistence.rebuild.build import locked, whoami
from antiphon.persistence.settings import StatusSettings
from antiphon.persistence.status.command import read_status
from antiphon.persistence.status.document import Status, View
from antiphon.persistence.status.lag import COUNTED
from antiphon.persistence.status.table import WIDTH, render

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually, NewSession, Publish, Replicas, RunningIngest

STALLED = Stalled(
    position=7,
    session_id="ses_01m7zjcg00000000000000000000",
    sequence=3,
    event_id="ses_01m7zjcg00000000000000000000:agent:AJ_M23UTF8T7Nc4:12",
    type="turn.saved",
    error="KeyError('a key that is missing from the metrics of this turn, and has a long name')",
    attempts=6,
    since=datetime(2026, 1, 31, 12, tzinfo=UTC),
)


class Reader:
    """Reads the status of the test's servers."""

    def __init__(self, nats_url: str, dsn: str) -> None:
        self._settings = StatusSettings(nats_url=nats_url, postgres_dsn=dsn)

    async def read(self) -> Status:
        return await read_status(self._settings)

    async def view(self, name: str) -> View:
        [view] = [view for view in (await self.read()).projections if view.projection == name]
        return view


@pytest.fixture
def status(nats_server: NatsServer, postgres_dsn: str) -> Reader:
    return Reader(nats_server.url, postgres_dsn)


async def test_the_lag_of_ingest_is_in_events_and_seconds(
    bus: Bus, publish: "Publish", ingest: "RunningIngest", new_session: "NewSession", status: Reader
) -> None:
    session = new_session("behind")
    await publish([session.requested(), session.turn(1)])
    await asyncio.sleep(0.05)

    part = (await status.read()).partitions[session.partition]
    assert (part.caught_up, part.lag.events) == (False, 2)
    assert part.lag.seconds is not None
    assert part.lag.seconds >= 0.05

    found = await status.read()
    others = {each.lag.events for each in found.partitions if each.partition != session.partition}
    assert others == {0}
    assert found.stream is not None
    assert (found.stream.messages, found.stream.max_age_seconds) == (2, 7 * 86_400)
    assert found.stream.bytes > 0
    assert found.stream.first_at is not None


async def test_a_log_of_many_events_is_not_counted(bus: Bus, database: Database, status: Reader) -> None:
    await synthetic_log.fill(database, 3 * COUNTED)

    view = await status.view("turns")
    assert (view.lag.events, view.lag.at_least) == (COUNTED, True)
    assert view.lag.seconds is not None
    assert view.lag.seconds > 0
    assert f">{COUNTED:,}" in render(await status.read())

    await database.pool.execute(
        "insert into projection_checkpoints (projection, partition, position)"
        " select 'turns', partition, max(position) from event_log group by partition"
        " on conflict (projection, partition) do update set position = excluded.position"
    )
    await database.pool.execute(
        "update projection_checkpoints set position = position - 1"
        " where projection = 'turns' and partition = 3"
    )
    view = await status.view("turns")
    assert (view.lag.events, view.lag.at_least) == (1, False)


@pytest.mark.slow
async def test_the_status_of_a_long_log_reads_few_of_its_rows(
    bus: Bus, database: Database, status: Reader, eventually: "Eventually"
) -> None:
    await synthetic_log.fill(database, 30 * COUNTED)
    await status.read()

    before = await _rows_read(database)
    await status.read()

    async def reported() -> bool:
        return await _rows_read(database) != before

    await eventually(reported, seconds=60)
    assert await _rows_read(database) - before < 20 * COUNTED


async def _rows_read(database: Database) -> int:
    query = """
        select seq_tup_read
               + (select sum(idx_tup_read) from pg_stat_user_indexes where relname = 'event_log')
          from pg_stat_user_tables where relname = 'event_log'
    """
    return int(await database.pool.fetchval(query))


async def test_a_build_is_shown_with_its_progress_and_who_runs_it(
    bus: Bus, database: Database, postgres_dsn: str, status: Reader
) -> None:
    await database.pool.execute(
        "insert into checkpoints (name, position) select 'ingest:' || n, 200 from generate_series(0, 15) as n"
    )
    async with locked(postgres_dsn, "turns") as connection:
        await shadow.create(connection, TURNS, whoami())
        await connection.execute("update rebuild_turns.projection_checkpoints set position = 50")
        view = await status.view("turns")
        assert view.build is not None
        assert (view.build.version, view.build.done) == (TURNS.version, 0.25)
        assert f"persistence rebuild turns {whoami()}" in (view.build.run_by or "")
        text = render(await status.read())
        assert "being built, 25%" in text
        assert "unfinished" not in text

    found = await status.read()
    [problem] = [each for each in found.problems if "unfinished" in each]
    assert "a build of turns in version" in problem
    assert "at 25% and nobody runs it: `rebuild turns` goes on with it" in problem
    assert "half built, 25%" in render(found)


async def test_versions_stalled_partitions_and_skipped_events_are_shown(
    bus: Bus, database: Database, status: Reader
) -> None:
    await database.pool.execute("update projections set version = 99 where name = 'sessions'")
    await database.pool.execute("insert into projections values ('of_other_code', 4, '{}')")
    await database.pool.execute(
        "insert into projection_checkpoints (projection, partition, position, stalled)"
        " values ('turns', 5, 6, $1)",
        msgspec.json.encode(STALLED).decode(),
    )
    await database.pool.execute(
        "insert into projection_skips values ('turns', 1, 2, 'ses_1', 3, 'e', 't', 'error')"
    )

    found = await status.read()
    views = {view.projection: view for view in found.projections}
    assert (views["sessions"].superseded, views["sessions"].live_version) == (True, 99)
    assert [each.event.sequence for each in views["turns"].stalled] == [3]
    assert views["turns"].skipped == 1
    assert views["of_other_code"].version is None
    assert [each for each in found.problems if each.startswith("turns partition 5 is stalled at event")]
    assert [each for each in found.problems if each.startswith("sessions is live in version 99")]
    text = render(found)
    assert "STALLED in 5" in text
    assert "superseded" in text
    assert max(map(len, text.splitlines())) <= WIDTH


async def test_without_nats_the_part_of_postgres_is_shown(database: Database, postgres_dsn: str) -> None:
    found = await read_status(StatusSettings(nats_url="nats://127.0.0.1:1", postgres_dsn=postgres_dsn))

    assert (found.nats, found.stream) == (False, None)
    assert {part.lag.events for part in found.partitions} == {None}
    assert found.problems[0].startswith("NATS cannot be asked how far behind ingest is: ")
    assert "Connect" in found.problems[0]
    assert "ANTIPHON_NATS_URL" not in found.problems[0]
    text = render(found)
    assert "stream     not known: NATS cannot be asked" in text
    assert "at rest" not in text


async def test_a_login_that_nats_refuses_is_told(
    database: Database, postgres_dsn: str, tmp_path: Path
) -> None:
    server = ConfiguredServer(tmp_path / "nats", 'authorization { user: "a", password: "b" }\n')
    await asyncio.to_thread(server.launch)
    try:
        found = await read_status(StatusSettings(nats_url=server.url, postgres_dsn=postgres_dsn))
    finally:
        await asyncio.to_thread(server.stop)

    assert "Authorization Violation" in found.problems[0]
    assert (found.nats, found.nats_error is not None) == (False, True)


async def test_without_the_address_of_nats_its_variable_is_named(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTIPHON_NATS_URL", raising=False)
    found = await read_status(StatusSettings(postgres_dsn=postgres_dsn))

    # Where a server answers at the default address, there is nothing to say.
    assert found.nats or "ANTIPHON_NATS_URL is not set: nats://127.0.0.1:4222 was tried" in found.problems[0]


async def test_a_missing_stream_is_named(bus: Bus, database: Database, status: Reader) -> None:
    await bus.connection.api("STREAM.DELETE.SESSIONS")
    found = await status.read()
    assert "stream SESSIONS does not exist: see `streams status`" in found.problems


@pytest.mark.slow
async def test_a_process_without_views_leaves_them_to_others(
    replica: "Replicas", status: Reader, eventually: "Eventually"
) -> None:
    ingest, views = replica(), replica()
    ingest.arguments, views.arguments = ("--no-views",), ("--no-ingest",)
    await ingest.start()
    await views.start()
    await ingest.until_ready(60)
    await views.until_ready(60)

    async def divided() -> bool:
        found = await status.read()
        of_ingest = {str(part.holder) for part in found.partitions}
        of_views = {holder for view in found.projections for holder in view.holders}
        return (
            all(f":{ingest.process.pid} " in holder for holder in of_ingest)
            and all(f":{views.process.pid} " in holder for holder in of_views)
            and all(sum(map(len, view.holders.values())) == PARTITIONS for view in found.projections)
        )

    await eventually(divided, seconds=60)


@pytest.mark.slow
async def test_a_process_that_carries_one_view_shares_it_with_a_full_one(
    bus: Bus,
    replica: "Replicas",
    publish: "Publish",
    new_session: "NewSession",
    database: Database,
    status: Reader,
    eventually: "Eventually",
    tmp_path: Path,
) -> None:
    full, part = replica(), replica()
    part.arguments = ("--only", "turns", "--no-ingest")
    await full.start()
    await part.start()
    await full.until_ready(60)
    await part.until_ready(60)

    async def shared() -> bool:
        view = await status.view("turns")
        return sorted(map(len, view.holders.values())) == [PARTITIONS // 2, PARTITIONS // 2]

    await eventually(shared, seconds=60)
    found = await status.read()
    [ingests] = {each.holder for each in found.partitions}
    assert f":{full.process.pid} " in str(ingests)
    by_view = {view.projection: view for view in found.projections}
    [carries] = by_view.pop("turns").holders.keys() - {ingests}
    assert f":{part.process.pid} " in carries
    assert all(view.holders == {ingests: list(range(PARTITIONS))} for view in by_view.values())
    assert found.problems == []
    text = render(found)
    assert "Nothing to act on." in text
    assert all(f":{each.process.pid} from" in text for each in (full, part))

    sessions = [new_session(f"shared {number}") for number in range(40)]
    await publish([envelope for session in sessions for envelope in session.whole_call()])

    async def folded() -> bool:
        return bool(await database.pool.fetchval("select count(*) from turns") == 120)

    await eventually(folded, seconds=60)
    _, body = await part.health()
    assert "ingest" not in body["checks"]
    assert json.dumps(body).count("projection ") > 0
