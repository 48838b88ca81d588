"""A backup that is stopped leaves no backup and no process; a restore that is, an empty database."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.persistence.backup.conftest import spawn

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres_files import INSTALLED
from antiphon.persistence.backup import restore as restoring
from antiphon.persistence.backup.manifest import BackupError, read_manifest
from antiphon.persistence.settings import BackupSettings

if TYPE_CHECKING:
    from tests.persistence.conftest import Eventually

pytestmark = pytest.mark.slow

# Writes a whole dump, and then more without end.
ENDLESS = """\
#!/bin/sh
"{real}" "$@"
test "$1" = --version && exit
echo $$ > "{started}"
while printf x; do sleep 0.05; done
"""


@pytest.fixture
def endless(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a pg_dump that does not end, and the file that it writes its process id to."""
    tools, started = tmp_path / "tools", tmp_path / "started"
    tools.mkdir()
    (tools / "pg_dump").write_text(ENDLESS.format(real=INSTALLED / "bin" / "pg_dump", started=started))
    (tools / "pg_dump").chmod(0o755)
    return tools, started


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
async def test_a_backup_that_is_stopped_is_none(
    number: signal.Signals,
    code: int,
    endless: tuple[Path, Path],
    bus: Bus,
    nats_server: NatsServer,
    postgres_dsn: str,
    tmp_path: Path,
    eventually: "Eventually",
) -> None:
    tools, started = endless
    target = tmp_path / "backup"
    process = await spawn(nats_server.url, postgres_dsn, tools, "backup", str(target))

    async def dumps() -> bool:
        assert process.returncode is None
        return started.exists() and started.read_text().strip() != ""

    await eventually(dumps, seconds=60)
    tool = int(started.read_text())
    process.send_signal(number)
    await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == code

    async def ended() -> bool:
        return not psutil.pid_exists(tool)

    await eventually(ended, seconds=30)
    assert not target.exists()
    with pytest.raises(BackupError, match="is no whole backup"):
        read_manifest(target.with_name("backup.partial"))

    again = await spawn(nats_server.url, postgres_dsn, INSTALLED / "bin", "backup", str(target))
    out, err = await asyncio.wait_for(again.communicate(), 60)
    assert again.returncode == 0, err.decode()
    assert "postgres, buckets, stream" in out.decode()
    assert read_manifest(target).parts() == ["postgres", "buckets", "stream"]
    assert not target.with_name("backup.partial").exists()


async def test_a_restore_that_is_stopped_leaves_an_empty_database(
    bus: Bus,
    nats_server: NatsServer,
    postgres_dsn: str,
    empty_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, tools = tmp_path / "backup", INSTALLED / "bin"
    backup = await spawn(nats_server.url, postgres_dsn, tools, "backup", str(target))
    assert await asyncio.wait_for(backup.wait(), 60) == 0
    for name, value in (
        ("ANTIPHON_NATS_URL", nats_server.url),
        ("ANTIPHON_POSTGRES_DSN", empty_dsn),
        ("ANTIPHON_POSTGRES_BIN", str(tools)),
    ):
        monkeypatch.setenv(name, value)

    class Killed(Exception):
        pass

    def half(path: Path) -> Iterator[bytes]:
        whole = path.read_bytes()
        yield whole[: len(whole) // 2]
        raise Killed

    monkeypatch.setattr(restoring, "_chunks", half)
    settings = BackupSettings()
    with pytest.raises(Killed):
        await restoring.restore(
            settings, target, ["postgres"], overwrite=False, dry_run=False, say=lambda _: None
        )
    database = await Database.connect(empty_dsn, max_size=1)
    try:
        query = "select count(*) from pg_tables where schemaname = 'public'"
        assert await database.pool.fetchval(query) == 0
    finally:
        await database.close()
