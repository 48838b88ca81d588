"""Adopted rooms are announced in the bucket that webhook-ingest reads."""

from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.events.session import SessionAdopted
from antiphon.contracts.ids import adopted_id, named_session_id
from antiphon.contracts.rooms import AdoptedRoom, decode_room
from antiphon.recorder.outbox.rooms import announce_room

FIRST, SECOND = named_session_id("acme", "first"), named_session_id("acme", "second")


def adopted(session_id: str, sid: str | None = "RM_1") -> Envelope:
    return seal(
        SessionAdopted(room="lobby", room_sid=sid),
        id=adopted_id(session_id),
        session_id=session_id,
        tenant="acme",
        producer="agent",
        producerseq=1,
        time=datetime.now(UTC),
    )


async def announced(bus: Bus) -> AdoptedRoom | None:
    value = await (await bus.bucket("rooms")).get("RM_1")
    return None if value is None else decode_room(value)


async def test_room_belongs_to_the_session_that_adopted_it_last(bus: Bus) -> None:
    first, again, second = adopted(FIRST), adopted(FIRST), adopted(SECOND)
    await announce_room(bus, first)
    await announce_room(bus, again)
    assert await announced(bus) == AdoptedRoom(FIRST, "acme", first.time)
    await announce_room(bus, second)
    assert await announced(bus) == AdoptedRoom(SECOND, "acme", second.time)
    await announce_room(bus, first)  # from the journal of a killed job
    assert await announced(bus) == AdoptedRoom(SECOND, "acme", second.time)


async def test_malformed_announcement_is_replaced(bus: Bus) -> None:
    await (await bus.bucket("rooms")).put("RM_1", b"not json")
    await announce_room(bus, envelope := adopted(FIRST))
    assert await announced(bus) == AdoptedRoom(FIRST, "acme", envelope.time)


@pytest.mark.parametrize("sid", [None, "", "RM *", "a.b", ">"])
async def test_room_without_a_usable_sid_is_not_announced(sid: str | None, bus: Bus) -> None:
    await announce_room(bus, adopted(FIRST, sid))
    assert await (await bus.bucket("rooms")).keys() == []
