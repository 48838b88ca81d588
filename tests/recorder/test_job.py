"""What the recordings of one job share, and that a long job with many of them holds only what it needs."""

from pathlib import Path

import pytest
from tests.recorder.test_record import end, job, log_of, new_session, of_type, talk

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.session import SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.recorder import RecorderSettings, record, recording_of
from antiphon.recorder.record import _jobs


@pytest.fixture
def settings(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> RecorderSettings:
    return RecorderSettings(nats_url=nats_server.url, journal_dir=tmp_path / "journals")


async def test_closed_recordings_of_a_long_job_are_forgotten(bus: Bus, settings: RecorderSettings) -> None:
    with job() as ctx:
        shutdown_calls: list[object] = []
        handlers: list[int] = []
        recordings: list[int] = []
        for number in range(4):
            session = new_session()
            session_id = named_session_id("default", f"{number % 3}")
            async with record(ctx, session, session_id=session_id, settings=settings) as recording:
                await talk(session, "hello")
            if number != 1:  # `finish` may be left to the end of the job
                assert await recording.finish()
            assert vars(session)["_antiphon_emit"] == []  # LiveKit keeps the sessions of a job
            recordings.append(len(_jobs["AJ_1"].recordings))
            shutdown_calls.append(ctx.shutdown)
            handlers.append(sum(map(len, ctx.room._events.values())))
        assert recording_of(ctx) is recording
        assert recordings == [1, 1, 1, 1]
        assert len(set(shutdown_calls)) == len(set(handlers)) == 1
        await end(ctx)
    events = await log_of(bus)
    assert [turn.user_text for turn in of_type(TurnSaved, events)] == ["hello"] * 4
    assert [joined.epoch for joined in of_type(AgentJoined, events)] == ["AJ_1"] * 3 + ["AJ_1.r2"]
    assert len(of_type(SessionClosed, events)) == 3  # of three sessions


async def test_finish_tells_again_what_is_published(
    nats_server: NatsServer, settings: RecorderSettings
) -> None:
    with job() as ctx:
        session = new_session()
        async with record(ctx, session, settings=settings) as recording:
            await talk(session, "hello")
            nats_server.stop()
        try:
            assert not await recording.finish(0.5)
        finally:
            nats_server.start()
        assert await recording.finish(60)
        await end(ctx)
        assert await recording.finish()
