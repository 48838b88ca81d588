"""A backup while another one ends, and while the stream is recreated."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from antiphon.chassis.bus import Bus, replace
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.backup import folder as folders
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.folder import LOCK, new_backup
from antiphon.persistence.backup.manifest import PARTS, BackupError, check_files, read_manifest
from antiphon.persistence.settings import BackupSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, Publish


async def test_a_backup_that_becomes_whole_is_not_cleared_by_another(
    settings: BackupSettings, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes at each moment at which the first writes to the disk."""
    target, refused, sync = tmp_path / "backup", [], folders._sync

    def second(folder: Path) -> None:
        monkeypatch.setattr(folders, "_sync", sync)
        with pytest.raises(BackupError) as error, new_backup(target):
            pass
        refused.append(str(error.value))
        monkeypatch.setattr(folders, "_sync", second)
        sync(folder)

    monkeypatch.setattr(folders, "_sync", second)
    manifest = await back_up(settings, target, PARTS, lambda _: None)

    assert len(refused) > len(PARTS)
    assert all("Another process writes" in text or "is not empty" in text for text in refused)
    assert msgspec.structs.replace(read_manifest(target), sha256="") == manifest
    check_files(target, manifest.files(manifest.parts()), lambda _: None)
    assert not (target / LOCK).exists()


async def test_a_stream_that_is_deleted_to_be_recreated_is_not_left_out(
    settings: BackupSettings, bus: Bus, publish: "Publish", new_session: "NewSession", tmp_path: Path
) -> None:
    """At this moment of `streams recreate`, its copies are all that there is of the events."""
    session = new_session("unread")
    await publish(session.turn(number) for number in range(1, 4))
    await replace.close_intake(bus.connection, SESSIONS)
    await replace.copy(bus.connection, [message async for message in bus.all_messages()])
    await replace.delete(bus.connection, SESSIONS.name)
    try:
        with pytest.raises(BackupError, match="is being recreated: run this again"):
            await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
    finally:
        await replace.delete(bus.connection, replace.UNREAD)
    assert not (tmp_path / "backup").exists()


async def test_a_stream_that_is_recreated_while_it_is_read_makes_no_backup(
    settings: BackupSettings,
    bus: Bus,
    publish: "Publish",
    new_session: "NewSession",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, read = new_session("unread"), Bus.read
    await publish([session.turn(1)])

    def reading(self: Bus, subject_filter: str, after: int = 0) -> object:
        async def messages() -> object:
            await replace.delete(bus.connection, SESSIONS.name)
            await bus.ensure()
            async for message in read(self, subject_filter, after):
                yield message

        return messages()

    monkeypatch.setattr(Bus, "read", reading)
    with pytest.raises(BackupError, match="was recreated meanwhile: run this again"):
        await back_up(settings, tmp_path / "backup", PARTS, lambda _: None)
