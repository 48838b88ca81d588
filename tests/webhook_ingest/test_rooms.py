"""The tenant of a room: from its metadata, else from the cache, else from the session's events."""

from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.ids import requested_id
from antiphon.webhook_ingest import tenants
from antiphon.webhook_ingest.tenants import Tenants


async def _request(bus: Bus, session_id: str, tenant: str) -> None:
    event = SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=session_id)
    envelope = seal(
        event,
        id=requested_id(session_id),
        session_id=session_id,
        tenant=tenant,
        producer="test",
        producerseq=0,
        time=datetime.now(UTC),
    )
    await bus.publish(outgoing(envelope))


async def test_metadata_has_the_tenant(bus: Bus, session_id: str) -> None:
    metadata = f'{{"session_id":"{session_id}","tenant":"acme"}}'

    assert await Tenants(bus).of_room(session_id, metadata) == "acme"


async def test_tenant_is_cached(bus: Bus, session_id: str) -> None:
    lookup = Tenants(bus)
    await lookup.of_room(session_id, f'{{"session_id":"{session_id}","tenant":"acme"}}')

    assert await lookup.of_room(session_id, "") == "acme"


async def test_tenant_is_read_from_session_events(bus: Bus, session_id: str) -> None:
    await _request(bus, session_id, "acme")

    assert await Tenants(bus).of_room(session_id, "") == "acme"


@pytest.mark.parametrize("metadata", ["not json", "{}", '{"session_id":"ses_other","tenant":"thief"}'])
async def test_metadata_of_another_session_is_ignored(metadata: str, bus: Bus, session_id: str) -> None:
    await _request(bus, session_id, "acme")

    assert await Tenants(bus).of_room(session_id, metadata) == "acme"


@pytest.mark.parametrize("room", ["", "foreign-room", "ses_short", "ses_*", ">"])
async def test_other_room_has_no_tenant(room: str, bus: Bus) -> None:
    assert await Tenants(bus).of_room(room, "") is None


async def test_unknown_session_has_no_tenant(bus: Bus, session_id: str) -> None:
    assert await Tenants(bus).of_room(session_id, "") is None


async def test_cache_is_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "CACHE_SIZE", 2)
    lookup = Tenants(bus)
    rooms = [f"ses_{number:026d}" for number in range(3)]
    for room in rooms:
        await lookup.of_room(room, f'{{"session_id":"{room}","tenant":"acme"}}')

    # The oldest entry was evicted, and the session has no events.
    assert [await lookup.of_room(room, "") for room in rooms] == [None, "acme", "acme"]
