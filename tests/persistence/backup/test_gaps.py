"""The stream no longer has what came after the backup: the gap is recorded, and its sessions are named."""

from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.restore import restore
from antiphon.persistence.settings import BackupSettings
from antiphon.persistence.streams.missing import read_missing, render_missing

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, RunningIngest


async def test_the_sessions_of_a_gap_are_named(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    event_log_of: "type[LogReader]",
    new_session: "NewSession",
    settings: BackupSettings,
    empty_dsn: str,
    tmp_path: Path,
) -> None:
    across, cut_off = new_session("across the gap"), new_session("cut off")
    late = next(
        session
        for number in range(1000)
        if (session := new_session(f"late {number}")).partition == across.partition
    )
    ended = new_session("ended").whole_call()  # 1 to 9
    across_call = [across.turn(number) for number in range(1, 8)]
    await publish([*ended, *across_call[:2], cut_off.turn(1)])  # 10 to 12
    ingest.start(*range(16))
    await event_log.until(12)
    await back_up(settings, tmp_path / "backup", ["postgres"], lambda _: None)
    await publish([*across_call[2:4], cut_off.turn(2), late.requested()])  # 13 to 16: to be lost
    await event_log.until(16)
    await ingest.end()
    await bus.connection.api("STREAM.PURGE.SESSIONS", {"seq": 17})
    await publish([*across_call[4:], late.turn(1)])

    target = settings.model_copy(update={"postgres_dsn": empty_dsn})
    await restore(target, tmp_path / "backup", None, overwrite=False, dry_run=False, say=lambda _: None)
    restored = await Database.connect(empty_dsn, max_size=4)
    try:
        again = type(ingest)(bus, restored)
        again.start(*range(16))
        await event_log_of(restored).until(16)
        await again.until_ready()
        await again.end()
        gaps = {gap.partition: gap for gap in await read_missing(bus, restored)}
    finally:
        await restored.close()

    assert {(gap.last, gap.most) for gap in gaps.values() if gap.last - gap.most == 12} == {(16, 4)}
    named = {
        each.session_id: (each.missing, each.unfinished, each.headless)
        for each in gaps[across.partition].sessions
    }
    assert named[across.session_id] == (2, False, False)
    assert named[late.session_id] == (1, False, True)
    found = {each.session_id: each for gap in gaps.values() for each in gap.sessions}
    assert found[cut_off.session_id].unfinished
    assert ended[0].subject not in found
    text = render_missing(list(gaps.values()))
    assert f"{across.session_id} of default: 2 events of its agent are missing" in text
    assert f"{cut_off.session_id} of default: it had not ended when the gap began" in text


async def test_a_gap_of_which_the_log_has_all_names_no_session(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    new_session: "NewSession",
) -> None:
    """A session that only goes on is no loss."""
    first, second = new_session("goes on"), new_session("of another partition")
    assert first.partition != second.partition
    await publish([first.turn(1), second.turn(1), second.turn(2)])
    ingest.start(first.partition, second.partition)
    await event_log.until(3)
    await ingest.end()
    await database.pool.execute(
        "insert into log_gaps (partition, first, last, reason) values ($1, 2, 3, 'a test')", first.partition
    )
    [gap] = await read_missing(bus, database)
    assert (gap.most, gap.sessions) == (0, [])


async def test_without_gaps_there_is_nothing_to_name(bus: Bus, database: Database) -> None:
    assert render_missing(await read_missing(bus, database)) == "No gap is known."
