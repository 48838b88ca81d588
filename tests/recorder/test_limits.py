"""The limits of a session, with the room as a double; tests/agent_worker has the real one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc
from livekit.agents.testing import fake_job_context

from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.events.session import CloseReason, SessionRequested
from antiphon.contracts.ids import named_session_id
from antiphon.recorder import limits as limits_module
from antiphon.recorder.limits import Limits, end_call
from antiphon.recorder.outbox import BusLink, Outbox
from antiphon.recorder.taps import ErrorGuard

SESSION = named_session_id("default", "limits")
CALLER = ParticipantConnected(identity="caller", sid="PA_1", kind="standard", attributes={})
OBSERVER = ParticipantConnected(identity="egress", sid="PA_0", kind="egress", attributes={})
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def link(bus: Bus, nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url))
    yield link
    await link.close()


async def publish(bus: Bus, *events: Event, at: datetime = LONG_AGO) -> None:
    for number, event in enumerate(events):
        envelope = seal(
            event,
            id=f"{SESSION}:{event.TYPE}:{number}",
            session_id=SESSION,
            tenant="default",
            producer="test",
            producerseq=number,
            time=at,
        )
        await bus.publish(outgoing(envelope))


def requested(**limits: Any) -> SessionRequested:
    return SessionRequested(flow_id="booking", flow_revision=1, user_id="u", room=SESSION, **limits)


async def reached(link: BusLink, folder: Path) -> list[CloseReason]:
    """Run the limits of a job in an empty room to their end."""
    ended: list[CloseReason] = []

    async def end(reason: CloseReason) -> None:
        ended.append(reason)

    writer = Outbox(folder, link, job_id="AJ_2").writer(SESSION, "default")
    async with asyncio.timeout(60):
        await Limits(link, rtc.Room(), writer, end=end).run()
    return ended


async def test_a_session_without_limits_has_no_end(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    await publish(bus, requested())

    assert await reached(link, tmp_path) == []


async def test_nobody_came(bus: Bus, link: BusLink, tmp_path: Path) -> None:
    await publish(bus, requested(ttl_seconds=1, max_duration_seconds=1), OBSERVER)

    assert await reached(link, tmp_path) == [CloseReason.NO_CALLER]


async def test_a_resumed_session_counts_the_time_with_its_first_agent(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    await publish(bus, requested(ttl_seconds=3600, max_duration_seconds=1800), OBSERVER, CALLER)

    assert await reached(link, tmp_path) == [CloseReason.MAX_DURATION]


async def test_a_call_that_is_being_ended_is_ended_when_its_job_ends(
    bus: Bus, link: BusLink, tmp_path: Path
) -> None:
    await publish(bus, requested(max_duration_seconds=1), CALLER)
    ending, ended = asyncio.Event(), asyncio.Event()

    async def end(reason: CloseReason) -> None:
        ending.set()
        await asyncio.sleep(0.2)
        ended.set()

    writer = Outbox(tmp_path, link, job_id="AJ_2").writer(SESSION, "default")
    limits = Limits(link, rtc.Room(), writer, end=end)
    limits.start()
    async with asyncio.timeout(60):
        await ending.wait()
        await limits.stop()

    assert ended.is_set()


async def test_the_room_is_deleted_also_when_the_record_is_not_completed_in_time(
    bus: Bus, link: BusLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(bus, requested(max_duration_seconds=1), CALLER)
    monkeypatch.setattr(limits_module, "END_SECONDS", 0.1)
    finishing = asyncio.Event()
    with fake_job_context(job_id="AJ_2", job_metadata="") as ctx:
        deleted: list[str | None] = []

        async def delete(name: str | None = None) -> None:
            deleted.append(name)

        monkeypatch.setattr(ctx, "delete_room", delete)

        async def finish() -> None:
            finishing.set()
            await asyncio.Event().wait()

        async def end(reason: CloseReason) -> None:
            await end_call(ctx, reason, sessions=[], guard=ErrorGuard(), finish=finish)

        writer = Outbox(tmp_path, link, job_id="AJ_2").writer(SESSION, "default")
        limits = Limits(link, rtc.Room(), writer, end=end)
        limits.start()
        async with asyncio.timeout(60):
            await finishing.wait()
            await limits.stop()
        assert deleted == [ctx.job.room.name]
