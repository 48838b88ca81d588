"""A restore again, later, by a later version, or into a database that is prepared."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic import command
from tests.fixtures.broker import erase
from tests.persistence.backup.test_refusals import rewrite

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.streams import ROOMS
from antiphon.persistence import migrations
from antiphon.persistence.backup import postgres_tools
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.manifest import PARTS, BackupError
from antiphon.persistence.backup.restore import Restored, restore
from antiphon.persistence.migrations import head, migrate
from antiphon.persistence.settings import BackupSettings
from antiphon.persistence.streams.missing import read_missing

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest

BEFORE = "0008"


@pytest.fixture
def target(settings: BackupSettings, empty_dsn: str) -> BackupSettings:
    """The settings of an empty database."""
    return settings.model_copy(update={"postgres_dsn": empty_dsn})


async def run(settings: BackupSettings, folder: Path, only: list[str] | None = None) -> Restored:
    return await restore(settings, folder, only, overwrite=False, dry_run=False, say=lambda _: None)


async def test_a_second_restore_gives_no_position_of_the_first_again(
    settings: BackupSettings,
    target: BackupSettings,
    bus: Bus,
    publish: "Publish",
    new_session: "NewSession",
    tmp_path: Path,
) -> None:
    """Clients hold positions of what came after the first restore."""
    await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    await erase(bus)
    first = (await run(target, tmp_path / "backup")).stream
    session = new_session("between")
    await publish(session.turn(number) for number in range(1, 4))
    held = await bus.stream_state()
    await erase(bus)
    second = (await run(target, tmp_path / "backup", ["stream"])).stream

    assert first is not None
    assert held is not None
    assert second is not None
    assert first.first <= held.first <= held.last < second.first


async def test_what_the_stream_dropped_unread_before_the_backup_is_recorded(
    settings: BackupSettings,
    target: BackupSettings,
    bus: Bus,
    publish: "Publish",
    new_session: "NewSession",
    tmp_path: Path,
) -> None:
    session = new_session("dropped")
    await publish(session.turn(number) for number in range(1, 6))
    await bus.connection.api("STREAM.PURGE.SESSIONS", {"seq": 4})
    await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    await erase(bus)

    stream = (await run(target, tmp_path / "backup")).stream
    assert stream is not None
    assert (stream.messages, stream.most) == (2, 3)
    restored = await Database.connect(target.postgres_dsn, max_size=2)
    try:
        gaps = {gap.partition: gap for gap in await read_missing(bus, restored)}
    finally:
        await restored.close()
    gap = gaps[session.partition]
    assert (gap.first, gap.last, gap.most) == (1, 3, 3)


async def test_persistence_may_run_while_its_database_is_restored(
    settings: BackupSettings,
    target: BackupSettings,
    bus: Bus,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log_of: "type[LogReader]",
    new_session: "NewSession",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads the stream on as soon as the dump is there, and the restore looks afterwards."""
    session = new_session("read meanwhile")
    await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    await publish([session.turn(1)])
    feed = postgres_tools.feed

    async def feed_and_ingest(*arguments: Any) -> None:
        await feed(*arguments)
        database = await Database.connect(target.postgres_dsn, max_size=4)
        running = type(ingest)(bus, database)
        running.start(session.partition)
        await event_log_of(database).until(1)
        await running.end()
        await database.close()

    monkeypatch.setattr(postgres_tools, "feed", feed_and_ingest)
    assert (await run(target, tmp_path / "backup", ["postgres"])).done == ["postgres"]


@pytest.fixture
async def of_before(
    settings: BackupSettings, bus: Bus, empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A backup by the version of an earlier schema; the database is empty again."""
    await asyncio.to_thread(command.upgrade, migrations._config(empty_dsn), BEFORE)
    known = {revision for revision in migrations.revisions() if revision <= BEFORE}
    source = settings.model_copy(update={"postgres_dsn": empty_dsn})
    with monkeypatch.context() as version:
        version.setattr(migrations, "head", lambda: BEFORE)
        version.setattr(migrations, "revisions", lambda: known)
        await back_up(source, tmp_path / "backup", PARTS, lambda _: None)
    await _make_empty(empty_dsn)
    return tmp_path / "backup"


async def _make_empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()


async def _revision(dsn: str) -> str | None:
    connection = await asyncpg.connect(dsn)
    try:
        return await migrations.current(connection)
    finally:
        await connection.close()


async def test_an_older_schema_is_migrated(of_before: Path, target: BackupSettings, bus: Bus) -> None:
    assert (await run(target, of_before, ["postgres"])).done == ["postgres"]
    assert await _revision(target.postgres_dsn) == head()


async def test_a_migration_that_fails_does_not_say_that_nothing_was_restored(
    of_before: Path, target: BackupSettings, bus: Bus
) -> None:
    """A function of the operator has the name of the one that the migration makes."""
    connection = await asyncpg.connect(target.postgres_dsn)
    await connection.execute("create function projection_lag(text[]) returns int language sql as 'select 1'")
    await connection.close()

    with pytest.raises(BackupError, match=r"refused the migration from revision 0008") as failed:
        await run(target, of_before, ["postgres"])
    assert "The database has the dump." in str(failed.value)
    assert await _revision(target.postgres_dsn) == BEFORE


async def test_a_backup_of_before_a_bucket_existed_is_restored(
    settings: BackupSettings, target: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    await back_up(settings, backup, PARTS, lambda _: None)
    buckets = json.loads((backup / "manifest.json").read_text())["buckets"]
    name = f"buckets/{ROOMS.name}.ndjson"
    rewrite(backup, {"buckets": [file for file in buckets if file["name"] != name]})
    (backup / name).unlink()
    await erase(bus)

    assert (await run(target, backup)).done == list(PARTS)
    assert await bus.has_bucket(ROOMS.name)


async def test_what_an_extension_has_made_is_not_in_the_way(
    settings: BackupSettings, target: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    """As the views of pg_stat_statements, which providers have in each new database."""
    await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    connection = await asyncpg.connect(target.postgres_dsn)
    await connection.execute(
        "create view statistics as select 1 as n; alter extension plpgsql add view statistics"
    )
    await connection.close()
    assert (await run(target, tmp_path / "backup", ["postgres"])).done == ["postgres"]


async def test_a_database_of_another_encoding_is_refused(
    settings: BackupSettings, target: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    name = target.postgres_dsn.rpartition("/")[2]
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(f'drop database "{name}"')
    how = "template template0 encoding 'LATIN1' locale_provider libc locale 'C'"
    await connection.execute(f'create database "{name}" {how}')
    await connection.close()

    with pytest.raises(BackupError, match="has the encoding LATIN1: what callers say needs UTF8"):
        await run(target, tmp_path / "backup", ["postgres"])
    with pytest.raises(
        migrations.SchemaMismatch, match="has the encoding LATIN1: what callers say needs UTF8"
    ):
        await asyncio.to_thread(migrate, target.postgres_dsn)
