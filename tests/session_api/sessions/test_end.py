"""POST /v1/sessions/{id}/end: publishes the command, deletes the room, closes the session once."""

from typing import Any

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.events.session import CloseReason, SessionAdopted, SessionClosed
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import ALL_EVENTS

JOINED = AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent-1")


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_api_closes_a_session_without_an_agent(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    response = await client.post(f"/v1/sessions/{session_id}/end")

    command, closed = map(open_event, (await _log(bus))[2:])
    assert (response.status_code, response.json()) == (200, {"session_id": session_id, "ended": True})
    assert command == CommandRequested(command_id="end", verb="end", actor="key:writer")
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.CANCELLED
    assert livekit.rooms == {}


async def test_delete_is_kept_for_erasure(client: httpx.AsyncClient, session_id: str, bus: Bus) -> None:
    before = await _log(bus)

    response = await client.delete(f"/v1/sessions/{session_id}")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET"
    assert response.json()["type"].endswith("/method-not-allowed")
    assert await _log(bus) == before


async def test_ending_an_adopted_session_deletes_its_room(
    client: httpx.AsyncClient, livekit: Any, persistence: Any
) -> None:
    adopted = "ses_01m7yq1we0eqq9xvayxnfetqqd"
    livekit.rooms["lobby"] = "RM_1"
    await persistence.commit(adopted, SessionAdopted(room="lobby", room_sid="RM_1"), JOINED)

    response = await client.post(f"/v1/sessions/{adopted}/end")

    assert (response.status_code, response.json()["ended"]) == (202, False)
    assert livekit.deleted == ["lobby"]


@pytest.mark.parametrize("retained", [True, False])
@pytest.mark.parametrize(
    ("room_sid", "rooms"), [("RM_1", {"lobby": "RM_2"}), ("RM_1", {}), (None, {"lobby": "RM_2"})]
)
async def test_a_later_room_of_the_same_name_is_not_deleted(
    room_sid: str | None,
    rooms: dict[str, str],
    retained: bool,
    client: httpx.AsyncClient,
    livekit: Any,
    persistence: Any,
    purge: Any,
) -> None:
    adopted = "ses_01m7yq1we0eqq9xvayxnfetqqd"
    livekit.rooms.update(rooms)
    await persistence.commit(adopted, SessionAdopted(room="lobby", room_sid=room_sid), JOINED)
    if not retained:
        await purge()  # then the view says which room it was

    response = await client.post(f"/v1/sessions/{adopted}/end")

    assert response.is_success
    assert livekit.deleted == []
    assert livekit.rooms == rooms


async def test_agent_closes_its_own_session(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any, persistence: Any
) -> None:
    await persistence.commit(session_id, JOINED)

    response = await client.post(f"/v1/sessions/{session_id}/end")

    assert (response.status_code, response.json()["ended"]) == (202, False)
    assert [envelope.type for envelope in await _log(bus)][-1] == "command.requested"
    assert livekit.rooms == {}


async def test_repeated_end_changes_nothing(
    client: httpx.AsyncClient, session_id: str, bus: Bus, persistence: Any
) -> None:
    await persistence.commit(session_id, JOINED)
    await client.post(f"/v1/sessions/{session_id}/end")
    before = await _log(bus)

    again = await client.post(f"/v1/sessions/{session_id}/end")

    assert again.status_code == 202
    assert await _log(bus) == before


async def test_end_of_an_ended_session_changes_nothing(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    await client.post(f"/v1/sessions/{session_id}/end")
    before = await _log(bus)

    again = await client.post(f"/v1/sessions/{session_id}/end")

    assert (again.status_code, again.json()["ended"]) == (200, True)
    assert await _log(bus) == before
    assert livekit.deleted == [session_id]


async def test_missing_room_is_no_error(client: httpx.AsyncClient, session_id: str, livekit: Any) -> None:
    livekit.rooms.clear()

    response = await client.post(f"/v1/sessions/{session_id}/end")

    assert response.is_success


async def test_livekit_outage_keeps_the_command_and_responds_503(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    # A real LiveKit cannot fail on demand.
    livekit.status = 503
    response = await client.post(f"/v1/sessions/{session_id}/end")
    kept = [envelope.type for envelope in await _log(bus)]
    livekit.status = 200

    again = await client.post(f"/v1/sessions/{session_id}/end")

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert kept[-1] == "command.requested"
    assert (again.status_code, again.json()["ended"]) == (200, True)


async def test_session_of_another_tenant_responds_404(
    client: httpx.AsyncClient, session_id: str, livekit: Any
) -> None:
    response = await client.post(
        f"/v1/sessions/{session_id}/end", headers={"Authorization": "Bearer foreign"}
    )

    assert response.status_code == 404
    assert livekit.deleted == []
