"""A run of `streams recreate` that is interrupted, however often, is completed by the next one."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.persistence.streams.reading import gaps_of, ingest_all

from antiphon.chassis.bus import Bus, Outgoing, replace
from antiphon.chassis.database import Database
from antiphon.persistence.streams.recreate import recreate
from antiphon.persistence.streams.status import read_stream_status

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        RunningIngest,
        SampleSession,
    )


@pytest.mark.parametrize("step", ["copy", "create_closed", "refill", "open_intake"])
async def test_an_interrupted_run_is_completed_by_the_next(
    step: str,
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = [session.turn(n) for n in range(1, 41)]
    await publish(call[:10])
    await ingest_all(ingest, event_log, session.partition, 10)
    await publish(call[10:])

    async def crash(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(replace, step, crash)
        with pytest.raises(RuntimeError):
            await recreate(bus, database, replace_existing=True)
    ingest.restart(session.partition)
    if step != "open_intake":  # the last step: the partitions may continue already
        await eventually(lambda: ingest.is_unready_because("run `streams recreate` again"), seconds=60)
    await ingest.end()

    await recreate(bus, database, replace_existing=False)
    await ingest_all(ingest, event_log, session.partition, 40)

    assert await event_log.events(session.session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert (await read_stream_status(bus, database)).problems == []
    await bus.verify()


async def test_a_dead_letter_is_stored_once_however_often_the_run_is_interrupted(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = f"sessions.{session.partition}.default.{session.session_id}.turn"
    await publish([session.turn(1)])
    for payload in (b"wrong", b"wrong", b"wrong as well"):
        await bus.publish(Outgoing(subject, payload, ""))

    async def crash(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(replace, "open_intake", crash)
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await recreate(bus, database, replace_existing=True)
    result = await recreate(bus, database, replace_existing=False)
    await publish([session.turn(2)])
    await ingest_all(ingest, event_log, session.partition, 2)

    assert result.taken_over == 4
    letters = [bytes(letter["payload"]) for letter in await event_log.dead_letters()]
    assert letters == [b"wrong", b"wrong", b"wrong as well"]


@pytest.mark.parametrize("step", ["create_closed", "refill", "open_intake", "delete"])
@pytest.mark.parametrize("lost", [False, True])
async def test_an_interrupted_run_records_no_gap_that_is_none(
    step: str,
    lost: bool,
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other partition had read everything, long ago, of the stream that the run replaces."""
    other = new_session("read before")
    await publish([other.turn(1), *(session.turn(n) for n in range(1, 11))])
    await ingest_all(ingest, event_log, other.partition, 1)
    await ingest_all(ingest, event_log, session.partition, 11)
    if lost:
        await bus.connection.api("STREAM.DELETE.SESSIONS")
    else:
        await publish([other.turn(2)])
    action, crashes = getattr(replace, step), 0

    async def crash(*arguments: Any) -> None:
        nonlocal crashes
        crashes += 1
        if step == "delete":
            await action(*arguments)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(replace, step, crash)
        for _ in range(2):
            with suppress(RuntimeError):
                await recreate(bus, database, replace_existing=True)
    assert crashes > 0
    result = await recreate(bus, database, replace_existing=True)

    assert (result.first, result.missing) == (12, {})
    assert (await read_stream_status(bus, database)).gaps == []


async def test_an_interrupted_run_records_the_gap_that_the_first_run_saw(
    bus: Bus,
    database: Database,
    publish: "Publish",
    ingest: "RunningIngest",
    event_log: "LogReader",
    session: "SampleSession",
    new_session: "NewSession",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = new_session("lost")
    await publish([session.turn(1), other.turn(1), other.turn(2), session.turn(2)])
    await ingest_all(ingest, event_log, session.partition, 2)
    await bus.connection.api("STREAM.DELETE.SESSIONS")

    async def crash(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(replace, "refill", crash)
        with pytest.raises(RuntimeError):
            await recreate(bus, database, replace_existing=False)
    result = await recreate(bus, database, replace_existing=False)

    assert (result.missing[other.partition], result.most) == ((1, 4), 2)
    assert await gaps_of(bus, database, session) == []
    assert await gaps_of(bus, database, other) == [(1, 4)]
