"""Rooms that were made again after the end of their session; tests/agent_worker has the real room service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.ids import closed_id
from antiphon.contracts.rooms import AdoptedRoom
from antiphon.webhook_ingest.ended_rooms import EndedRooms
from antiphon.webhook_ingest.webhook import Webhook, parse

ENDED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=1.0, turns=0)

Webhooks = Callable[..., Webhook]


class Rooms:
    """A room service that keeps what is deleted, and fails as often as `failures` says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failures = 0

    async def delete(self, name: str, sid: str) -> bool:
        self.asked.append(sid)
        if self.failures:
            self.failures -= 1
            raise OSError("connection refused")
        return True


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()


@pytest.fixture
async def ended_rooms(bus: Bus, rooms: Rooms) -> AsyncIterator[EndedRooms]:
    ended = EndedRooms(bus, rooms, wait_seconds=0)
    yield ended
    await ended.close()


@pytest.fixture
def of_room(webhook: Callable[..., bytes], session_id: str) -> Webhooks:
    def write(sid: str, *, after_seconds: float, event: str = "room_started", name: str = "") -> Webhook:
        created_ms = int((ENDED_AT.timestamp() + after_seconds) * 1000)
        room = {
            "sid": sid,
            "name": name or session_id,
            "creationTime": str(created_ms // 1000),
            "creationTimeMs": str(created_ms),
        }
        return parse(webhook(event, room=room))[0]

    return write


@pytest.fixture
async def session(bus: Bus, session_id: str) -> AdoptedRoom:
    """A session that has ended."""
    envelope = seal(
        CLOSED,
        id=closed_id(session_id),
        session_id=session_id,
        tenant="default",
        producer="test",
        producerseq=0,
        time=ENDED_AT,
    )
    await bus.publish(outgoing(envelope))
    return AdoptedRoom(session_id, "default")


async def asked_for(rooms: Rooms, sid: str) -> None:
    async with asyncio.timeout(60):
        while sid not in rooms.asked:  # noqa: ASYNC110 - the room service has no event
            await asyncio.sleep(0.01)


async def test_a_room_made_after_the_end_is_deleted_once(
    ended_rooms: EndedRooms, rooms: Rooms, session: AdoptedRoom, of_room: Webhooks
) -> None:
    ended_rooms.look(of_room("RM_1", after_seconds=-5), session)  # in which the session ended
    ended_rooms.look(of_room("RM_2", after_seconds=0.5, event="participant_left"), session)
    ended_rooms.look(of_room("RM_3", after_seconds=0.5, name="lobby"), session)
    for event in ("room_started", "participant_joined"):
        ended_rooms.look(of_room("RM_4", after_seconds=0.5, event=event), session)
    ended_rooms.look(of_room("RM_5", after_seconds=0.5), session)

    await asked_for(rooms, "RM_5")

    assert rooms.asked == ["RM_4", "RM_5"]


async def test_a_room_of_a_session_that_goes_on_stays(
    ended_rooms: EndedRooms, rooms: Rooms, session: AdoptedRoom, of_room: Webhooks
) -> None:
    ended_rooms.look(of_room("RM_1", after_seconds=5), AdoptedRoom(session.session_id, "another"))
    ended_rooms.look(of_room("RM_2", after_seconds=5), session)

    await asked_for(rooms, "RM_2")

    assert rooms.asked == ["RM_2"]


async def test_the_next_participant_is_another_attempt(
    ended_rooms: EndedRooms, rooms: Rooms, session: AdoptedRoom, of_room: Webhooks
) -> None:
    rooms.failures = 1
    for event in ("room_started", "participant_joined", "participant_joined"):
        ended_rooms.look(of_room("RM_1", after_seconds=1, event=event), session)
    ended_rooms.look(of_room("RM_2", after_seconds=1), session)

    await asked_for(rooms, "RM_2")

    assert rooms.asked == ["RM_1", "RM_1", "RM_2"]
