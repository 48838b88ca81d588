"""The tenant of a room: from the room's own metadata, else from memory, else from the log."""

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


async def test_the_room_s_metadata_names_the_tenant(bus: Bus, session_id: str) -> None:
    metadata = f'{{"session_id":"{session_id}","tenant":"acme"}}'

    assert await Tenants(bus).of_room(session_id, metadata) == "acme"


async def test_a_later_webhook_without_metadata_is_known_from_the_first(bus: Bus, session_id: str) -> None:
    known = Tenants(bus)
    await known.of_room(session_id, f'{{"session_id":"{session_id}","tenant":"acme"}}')

    assert await known.of_room(session_id, "") == "acme"


async def test_after_a_restart_the_log_names_the_tenant(bus: Bus, session_id: str) -> None:
    await _request(bus, session_id, "acme")

    assert await Tenants(bus).of_room(session_id, "") == "acme"


@pytest.mark.parametrize("metadata", ["not json", "{}", '{"session_id":"ses_other","tenant":"thief"}'])
async def test_metadata_that_is_not_of_this_session_is_not_believed(
    metadata: str, bus: Bus, session_id: str
) -> None:
    await _request(bus, session_id, "acme")

    assert await Tenants(bus).of_room(session_id, metadata) == "acme"


@pytest.mark.parametrize("room", ["", "somebody-elses-room", "ses_short", "ses_*", ">"])
async def test_a_room_that_is_no_session_has_no_tenant(room: str, bus: Bus) -> None:
    assert await Tenants(bus).of_room(room, "") is None


async def test_a_session_that_the_log_does_not_know_has_no_tenant(bus: Bus, session_id: str) -> None:
    assert await Tenants(bus).of_room(session_id, "") is None


async def test_memory_is_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "REMEMBERED", 2)
    known = Tenants(bus)
    rooms = [f"ses_{number:026d}" for number in range(3)]
    for room in rooms:
        await known.of_room(room, f'{{"session_id":"{room}","tenant":"acme"}}')

    # The oldest was forgotten, and the log knows nothing of it.
    assert [await known.of_room(room, "") for room in rooms] == [None, "acme", "acme"]
