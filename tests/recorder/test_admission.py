"""Which jobs are recorded, asked at a real broker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from livekit.agents.testing import fake_job_context
from livekit.protocol.models import Room

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.deployment import deployment_of
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionDispatched
from antiphon.contracts.ids import closed_id, named_session_id
from antiphon.contracts.subjects import session_filter
from antiphon.recorder import RecorderSettings, SessionEnded, admission, record
from antiphon.recorder.admission import Refusal, own_deployment, refusal_of
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

SESSION = named_session_id("default", "admission")
OTHER = "01234567"
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=1.0, turns=0)
LOBBY = Room(name="lobby", sid="RM_0", creation_time=1)
ENDED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def room(sid: str, *, after_seconds: float) -> Room:
    """Return the session's room, created that long after its end."""
    created_ms = int((ENDED_AT.timestamp() + after_seconds) * 1000)
    return Room(name=SESSION, sid=sid, creation_time=created_ms // 1000, creation_time_ms=created_ms)


REMADE = room("RM_2", after_seconds=0.5)


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url))
    yield link
    await link.close()


async def close_session(bus: Bus) -> None:
    await publish(bus, CLOSED, closed_id(SESSION))


async def publish(bus: Bus, event: Event, event_id: str) -> None:
    envelope = seal(
        event,
        id=event_id,
        session_id=SESSION,
        tenant="default",
        producer="agent",
        producerseq=9,
        time=ENDED_AT,
    )
    await bus.publish(outgoing(envelope))


async def test_a_job_of_the_own_deployment_is_recorded(bus: Bus, link: BusLink) -> None:
    own = (await deployment_of(bus)).id

    for deployment in (own, None):
        identity = Identity(SESSION, "default", requested=True, deployment=deployment)
        assert await refusal_of(link, identity, REMADE) is None


async def test_a_job_of_another_deployment_is_refused_and_its_room_left_alone(
    bus: Bus, link: BusLink
) -> None:
    own = (await deployment_of(bus)).id

    refusal = await refusal_of(link, Identity(SESSION, "default", deployment=OTHER), LOBBY)

    assert refusal == Refusal(f"the job is of the deployment {OTHER}, and this is {own}")


async def test_a_room_that_was_made_again_after_the_end_is_to_be_closed(bus: Bus, link: BusLink) -> None:
    await publish(bus, SessionDispatched(attempt=1, room_sid="RM_1", agent_name="a"), "dispatched")
    await close_session(bus)
    identity = Identity(SESSION, "default", requested=True)

    assert await refusal_of(link, identity, REMADE) == Refusal("the session has ended", close_room=True)
    assert await refusal_of(link, identity, LOBBY) is None  # a room of the agent's own choice


@pytest.mark.parametrize(
    "still_open",
    [
        room("RM_1", after_seconds=5),  # dispatched: LiveKit's clock is ahead
        room("RM_2", after_seconds=-5),  # made again while the session went on
        Room(name=SESSION, sid="RM_2"),
    ],
    ids=["dispatched", "older", "unknown"],
)
async def test_the_room_in_which_a_session_ended_goes_on(still_open: Room, bus: Bus, link: BusLink) -> None:
    await publish(bus, SessionDispatched(attempt=1, room_sid="RM_1", agent_name="a"), "dispatched")
    await close_session(bus)

    assert await refusal_of(link, Identity(SESSION, "default", requested=True), still_open) is None


async def test_without_an_answer_the_job_is_recorded(
    bus: Bus, link: BusLink, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats_server.stop()
    monkeypatch.setattr(admission, "ASK_SECONDS", 3600)  # a refused connection is known at once

    assert await refusal_of(link, Identity(SESSION, "default", deployment=OTHER), REMADE) is None


async def test_a_broker_without_an_identity_records_all(bus: Bus, link: BusLink) -> None:
    assert await own_deployment(bus) is None
    assert await refusal_of(link, Identity(SESSION, "default", deployment=OTHER), LOBBY) is None


async def test_a_refused_job_writes_nothing(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await close_session(bus)
    settings = RecorderSettings(nats_url=nats_server.url, journal_dir=tmp_path)
    with fake_job_context(job_id="AJ_2", job_metadata="") as ctx:
        ctx.job.room.CopyFrom(REMADE)
        async with record(ctx, settings=settings, adopt_orphans=False) as recording:
            recording.ready("Good evening.")
            with pytest.raises(SessionEnded):  # LiveKit would make the room again
                await ctx.connect()
        assert recording.refused == "the session has ended"
        assert recording.session_continues  # no room of ours to delete
        assert await recording.finish()
        for callback in ctx._shutdown_callbacks:
            await callback("test")

    stored = [incoming async for incoming in bus.read(session_filter("default", SESSION))]
    assert len(stored) == 1
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_job_that_recorded_the_session_records_it_again(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = RecorderSettings(nats_url=nats_server.url, journal_dir=tmp_path)
    with fake_job_context(job_id="AJ_1", job_metadata="") as ctx:
        ctx.job.room.CopyFrom(REMADE)
        async with record(ctx, settings=settings, adopt_orphans=False) as recording:
            assert await recording.finish()
        await close_session(bus)
        async with record(ctx, settings=settings, adopt_orphans=False) as again:
            assert (again.session_id, again.refused) == (SESSION, None)
        for callback in ctx._shutdown_callbacks:
            await callback("test")


async def test_the_end_of_a_session_has_one_id(bus: Bus) -> None:
    """The log takes each id once, also when the broker has forgotten that it knows it."""
    await close_session(bus)
    await close_session(bus)
    await asyncio.sleep(0)

    assert len([incoming async for incoming in bus.read(session_filter("default", SESSION))]) == 1
