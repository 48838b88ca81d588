"""LiveKit keeps a room after a call: each call in it is a session of its own."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest
from tests.recorder.test_record import end, job, log_of, new_session, of_type, talk

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import adopted_id, adopted_session_id
from antiphon.contracts.rooms import AdoptedRoom, decode_room
from antiphon.recorder import RecorderSettings, record


@pytest.fixture
def settings(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> RecorderSettings:
    return RecorderSettings(nats_url=nats_server.url, journal_dir=tmp_path / "journals")


async def test_calls_in_one_room_are_sessions_of_their_own(bus: Bus, settings: RecorderSettings) -> None:
    for number in (1, 2, 3):
        with job(f"AJ_{number}") as ctx:
            session = new_session()
            async with record(ctx, session, settings=settings) as recording:
                await talk(session, f"call {number}")
            assert await recording.finish()
            await end(ctx)
    events = await log_of(bus)
    ids = [adopted_session_id("default", "RM_1", number) for number in (1, 2, 3)]
    for session_id, text in zip(ids, ("call 1", "call 2", "call 3"), strict=True):
        own = [event for event in events if event.subject == session_id]
        assert own[0].type == "session.adopted"
        assert [turn.user_text for turn in of_type(TurnSaved, own)] == [text]
        assert own[-1].type == "session.closed"
    assert {event.subject for event in events} == set(ids)
    announced = await (await bus.bucket("rooms")).get("RM_1")
    assert decode_room(announced or b"") == AdoptedRoom(ids[-1], "default", _adopted_at(events, ids[-1]))


def _adopted_at(events: list[Envelope], session_id: str) -> datetime:
    return next(event.time for event in events if event.id == adopted_id(session_id))


@pytest.mark.parametrize("announced", [True, False])
async def test_agents_that_start_a_later_call_together_record_one_session(
    announced: bool, bus: Bus, settings: RecorderSettings
) -> None:
    with job("AJ_1") as ctx:
        async with record(ctx, settings=settings) as recording:
            pass
        assert await recording.finish()
        await end(ctx)
    if not announced:
        await (await bus.bucket("rooms")).delete("RM_1")
    with job("AJ_2") as two, job("AJ_3") as three:
        recordings = await asyncio.gather(
            *(record(ctx, settings=settings).__aenter__() for ctx in (two, three))
        )
        assert {found.session_id for found in recordings} == {adopted_session_id("default", "RM_1", 2)}
        for ctx in (two, three):
            await end(ctx)


async def test_without_a_broker_a_room_has_its_first_session(
    settings: RecorderSettings, caplog: pytest.LogCaptureFixture
) -> None:
    away = RecorderSettings(nats_url="nats://127.0.0.1:1", journal_dir=settings.journal_dir)
    with job() as ctx:
        async with asyncio.timeout(60):
            async with record(ctx, settings=away) as recording:
                pass
            assert recording.session_id == adopted_session_id("default", "RM_1")
            await recording.finish(timeout_seconds=0.1)
        async with record(ctx) as again:  # the job knows that its first session has ended
            assert again.session_id == adopted_session_id("default", "RM_1", 2)
        await again.finish(timeout_seconds=0.1)
        await end(ctx)
    assert any("recorder.earlier_calls_unknown" in line.getMessage() for line in caplog.records)
