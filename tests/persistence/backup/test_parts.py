"""Parts of two backups together: a dump of one's own, and the broker's part of another moment."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.restore import restore
from antiphon.persistence.settings import BackupSettings
from antiphon.persistence.streams.missing import read_missing

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest


@pytest.mark.parametrize(("order", "missing"), [("broker first", 0), ("dump first", 2)])
async def test_the_broker_comes_first_and_otherwise_the_gap_is_recorded(
    order: str,
    missing: int,
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
    settings: BackupSettings,
    empty_dsn: str,
    tmp_path: Path,
) -> None:
    parts = [("broker", ["buckets", "stream"]), ("dump", ["postgres"])]
    session = new_session("two moments")
    ingest.start(session.partition)
    for number, (name, only) in enumerate(parts if order == "broker first" else reversed(parts), 1):
        await publish([session.turn(2 * number), session.turn(2 * number + 1)])
        await event_log.until(2 * number)
        await back_up(settings, tmp_path / name, only, lambda _: None)
    await ingest.end()
    await erase(bus)

    target = settings.model_copy(update={"postgres_dsn": empty_dsn})
    for name in ("dump", "broker"):
        result = await restore(
            target, tmp_path / name, None, overwrite=False, dry_run=False, say=lambda _: None
        )
    assert result.stream is not None
    assert result.stream.most == missing
    restored = await Database.connect(empty_dsn, max_size=2)
    try:
        gaps = await read_missing(bus, restored)
        assert [(gap.partition, gap.first, gap.last, gap.most) for gap in gaps] == (
            [(session.partition, 3, 4, 2)] if missing else []
        )
    finally:
        await restored.close()
