"""What is refused changes nothing, and a backup that fails or is interrupted leaves nothing."""

import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.deployment import deployment_of
from antiphon.contracts.deployment import IDENTITY_KEY
from antiphon.contracts.streams import DEPLOYMENT, KEYS
from antiphon.persistence.backup import back_up as backing_up
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.folder import LOCK, new_backup
from antiphon.persistence.backup.manifest import PARTS, BackupError, checksum, read_manifest
from antiphon.persistence.backup.restore import Restored, restore
from antiphon.persistence.settings import BackupSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, Publish

Restore = Callable[..., Awaitable[Restored]]
OUTSIDE = {"file": {"name": "../../etc/passwd", "bytes": 0, "sha256": ""}, "first": 1, "last": 1}


@pytest.fixture
async def backup(
    settings: BackupSettings, bus: Bus, publish: "Publish", new_session: "NewSession", tmp_path: Path
) -> Path:
    """A backup with an identity, a key, and three events that only the stream has."""
    await deployment_of(bus)
    await (await bus.bucket(KEYS.name)).put("hash", b"a key")
    session = new_session("kept")
    await publish(session.turn(number) for number in range(1, 4))
    folder = tmp_path / "backup"
    await back_up(settings, folder, PARTS, lambda _: None)
    return folder


@pytest.fixture
def into(settings: BackupSettings, bus: Bus, backup: Path, empty_dsn: str) -> Restore:
    """Restore the backup into another database, which is empty, and the same broker."""

    async def run(
        *, dry_run: bool = False, overwrite: bool = False, only: list[str] | None = None
    ) -> Restored:
        target = settings.model_copy(update={"postgres_dsn": empty_dsn})
        return await restore(target, backup, only, overwrite=overwrite, dry_run=dry_run, say=lambda _: None)

    return run


def rewrite(backup: Path, change: dict[str, object]) -> None:
    """Write other fields into the manifest, as other code would have."""
    path = backup / "manifest.json"
    text = json.dumps(json.loads(path.read_text()) | change)
    path.write_text(json.dumps(json.loads(text) | {"sha256": checksum(text.encode())}))


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("backup*"))


async def tables(dsn: str) -> int:
    database = await Database.connect(dsn, max_size=1)
    try:
        return int(await database.pool.fetchval("select count(*) from pg_tables where schemaname = 'public'"))
    finally:
        await database.close()


async def test_a_backup_is_restored_into_an_empty_system(into: Restore, bus: Bus, empty_dsn: str) -> None:
    await erase(bus)

    assert (await into(dry_run=True)).done == []
    assert (await tables(empty_dsn), await bus.stream_state()) == (0, None)
    result = await into()

    assert result.done == ["postgres", "buckets", "stream"]
    assert result.stream is not None
    assert (result.stream.messages, result.stream.missing) == (3, {})
    await bus.verify()
    assert await (await bus.bucket(KEYS.name)).get("hash") == b"a key"
    messages = [message async for message in bus.read("sessions.>")]
    assert [(message.headers or {})["Nats-Msg-Id"].rpartition(":")[2] for message in messages] == [
        "1",
        "2",
        "3",
    ]
    assert await tables(empty_dsn) > 5


async def test_it_is_not_restored_twice(into: Restore, bus: Bus) -> None:
    await erase(bus)
    await into()

    with pytest.raises(BackupError, match=r"is not empty \(\d+ tables(.|\n)*Nothing was restored"):
        await into(only=["postgres"])
    with pytest.raises(BackupError, match="the stream SESSIONS exists, with positions"):
        await into(only=["stream"])
    assert (await into(only=["buckets"])).done == ["buckets"]  # the same values: nothing changes


async def test_a_running_system_is_not_overwritten(into: Restore, bus: Bus, empty_dsn: str) -> None:
    await (await bus.bucket(KEYS.name)).put("hash", b"another key")
    before = await bus.stream_state()

    with pytest.raises(BackupError) as refused:
        await into()
    assert "bucket keys: 1 keys have another value than in the backup: hash" in str(refused.value)
    assert "the stream SESSIONS exists" in str(refused.value)
    assert await bus.stream_state() == before
    assert await tables(empty_dsn) == 0

    await into(only=["buckets"], overwrite=True)
    assert await (await bus.bucket(KEYS.name)).get("hash") == b"a key"


async def test_the_backup_of_another_deployment_is_refused(into: Restore, bus: Bus, empty_dsn: str) -> None:
    await (await bus.bucket(DEPLOYMENT.name)).delete(IDENTITY_KEY)
    await deployment_of(bus)

    with pytest.raises(BackupError, match=r"the backup is of deployment .*, and the broker holds"):
        await into(only=["postgres"])
    assert await tables(empty_dsn) == 0


async def test_a_missing_database_is_named(into: Restore, settings: BackupSettings, backup: Path) -> None:
    missing = settings.model_copy(update={"postgres_dsn": f"{settings.postgres_dsn}_missing"})
    with pytest.raises(BackupError, match="does not exist: create it, empty"):
        await restore(missing, backup, ["postgres"], overwrite=False, dry_run=True, say=lambda _: None)


def _flip_a_byte(backup: Path, name: str) -> None:
    content = bytearray((backup / name).read_bytes())
    content[len(content) // 2] ^= 1
    (backup / name).write_bytes(content)


@pytest.mark.parametrize("name", ["postgres.dump", "buckets/keys.ndjson", "stream.ndjson"])
async def test_a_damaged_file_is_found_before_anything_is_restored(
    name: str, into: Restore, backup: Path, bus: Bus, empty_dsn: str
) -> None:
    await erase(bus)
    _flip_a_byte(backup, name)

    with pytest.raises(BackupError, match="is damaged: it has"):
        await into()
    assert (await tables(empty_dsn), await bus.stream_state()) == (0, None)


async def test_a_file_that_is_cut_off_or_missing_is_found(into: Restore, backup: Path) -> None:
    os.truncate(backup / "postgres.dump", 100)
    with pytest.raises(BackupError, match="is damaged: it has 100 bytes"):
        await into()
    (backup / "postgres.dump").unlink()
    with pytest.raises(BackupError, match=r"postgres.dump cannot be read: No such file"):
        await into()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "has format 2, and this version reads up to 1"),
        ({"partitions": 32}, "of a deployment with 32 partitions"),
        ({"heads": "none"}, "is damaged"),
        (
            {"buckets": [{"name": "buckets/secrets.ndjson", "bytes": 0, "sha256": ""}]},
            "does not know buckets",
        ),
        ({"stream": OUTSIDE}, r"names \.\./\.\./etc/passwd, which is not a file of the backup"),
    ],
)
async def test_a_manifest_of_other_code_is_refused(
    change: dict[str, object], reason: str, into: Restore, backup: Path
) -> None:
    rewrite(backup, change)
    with pytest.raises(BackupError, match=reason):
        await into()


async def test_a_changed_digit_of_the_manifest_is_found(into: Restore, backup: Path) -> None:
    path = backup / "manifest.json"
    text = path.read_text()
    for field in ('"last": ', '"read_through": [', '"ended_at": "20'):
        at = text.index(field) + len(field)
        at += len(text[at:]) - len(text[at:].lstrip())
        path.write_text(text[:at] + ("8" if text[at] != "8" else "9") + text[at + 1 :])
        with pytest.raises(BackupError, match=r"manifest\.json is damaged: it has another"):
            await into(dry_run=True)


async def test_a_newer_schema_is_refused(into: Restore, backup: Path, empty_dsn: str) -> None:
    dump = json.loads((backup / "manifest.json").read_text())["postgres"]
    rewrite(backup, {"postgres": dump | {"revision": "9999", "compatible_from": "9000"}})
    with pytest.raises(BackupError, match="schema revision 9999, for code of revision 9000 and later"):
        await into()
    assert await tables(empty_dsn) == 0


async def test_a_part_that_was_not_saved_cannot_be_restored(
    settings: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    await back_up(settings, folder, ["buckets", "stream"], lambda _: None)
    assert read_manifest(folder).parts() == ["buckets", "stream"]
    with pytest.raises(BackupError, match="The backup has no postgres; it has buckets, stream"):
        await restore(settings, folder, ["postgres"], overwrite=False, dry_run=True, say=lambda _: None)


async def test_no_backup_is_written_over_another(settings: BackupSettings, backup: Path) -> None:
    before = (backup / "manifest.json").read_bytes()
    with pytest.raises(BackupError, match="exists and is not empty"):
        await back_up(settings, backup, PARTS, lambda _: None)
    assert (backup / "manifest.json").read_bytes() == before


async def test_two_processes_do_not_write_one_backup(
    settings: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    with new_backup(target), pytest.raises(BackupError, match="Another process writes"):
        await back_up(settings, target, PARTS, lambda _: None)


async def test_what_a_killed_process_has_left_is_no_backup_and_is_replaced(
    settings: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    left = target.with_name("backup.partial")
    left.mkdir()
    (left / LOCK).touch()
    (left / "postgres.dump").write_text("half")
    with pytest.raises(BackupError, match=r"is no whole backup: it has no manifest.json"):
        read_manifest(left)

    await back_up(settings, target, PARTS, lambda _: None)
    assert not left.exists()
    assert sorted(path.name for path in target.iterdir()) == [
        "buckets",
        "manifest.json",
        "postgres.dump",
        "stream.ndjson",
    ]


async def test_a_full_disk_leaves_nothing(
    settings: BackupSettings, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file system itself: the tail is written to a device that is always full."""
    real = Path.open

    def full(self: Path, mode: str = "r", *arguments: object) -> object:
        if self.name == "stream.ndjson":
            return real(Path("/dev/full"), "wb")
        return real(self, mode, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    await bus.publish(Outgoing("sessions.1.default.ses_x.turn", b"x" * 100, "one"))
    with pytest.raises(BackupError, match=r"No space left on device. Nothing was left there"):
        await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"postgres_bin": Path("/nowhere")}, "pg_dump is not in /nowhere: install the client tools"),
        ({"nats_url": "nats://127.0.0.1:1"}, "no NATS server answered"),
        ({"postgres_dsn": "postgresql://a:b@127.0.0.1:1/c"}, "Postgres did not answer: ConnectionRefused"),
    ],
)
async def test_without_tools_or_servers_there_is_a_reason_and_no_backup(
    update: dict[str, object],
    reason: str,
    settings: BackupSettings,
    bus: Bus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backing_up, "CONNECT_SECONDS", 0.5)
    with pytest.raises(BackupError, match=reason):
        await back_up(settings.model_copy(update=update), tmp_path / "backup", PARTS, lambda _: None)
    assert left_in(tmp_path) == []


async def test_a_bucket_that_does_not_exist_is_named(
    settings: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    await bus.connection.api("STREAM.DELETE.KV_flows")
    with pytest.raises(BackupError, match="The bucket flows does not exist"):
        await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    assert left_in(tmp_path) == []


async def test_a_failed_pg_restore_leaves_an_empty_database(
    into: Restore, bus: Bus, backup: Path, empty_dsn: str
) -> None:
    """The dump is whole by its checksum, and no dump."""
    await erase(bus)
    path = backup / "postgres.dump"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    dump = json.loads((backup / "manifest.json").read_text())["postgres"]
    dump["file"] |= {
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    rewrite(backup, {"postgres": dump})
    with pytest.raises(BackupError, match=r"pg_restore failed(.|\n)*Nothing was restored"):
        await into()
    assert (await tables(empty_dsn), await bus.stream_state()) == (0, None)
