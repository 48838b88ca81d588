"""DELETE /v1/sessions/{id}: the wish is on the log, the room is gone, and the last word is said once."""

from typing import Any

import httpx

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.agent import AgentJoined
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import ALL_EVENTS

JOINED = AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent-1")


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_without_an_agent_the_session_is_closed_here(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    answer = await client.delete(f"/v1/sessions/{session_id}")

    wish, closed = map(open_event, (await _log(bus))[2:])
    assert (answer.status_code, answer.json()) == (202, {"session_id": session_id, "ended": True})
    assert wish == CommandRequested(command_id="end", verb="end", actor="key:writer")
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.CANCELLED
    assert livekit.rooms == {}


async def test_with_an_agent_the_agent_has_the_last_word(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any, persistence: Any
) -> None:
    await persistence.commit(session_id, JOINED)

    answer = await client.delete(f"/v1/sessions/{session_id}")

    assert (answer.status_code, answer.json()["ended"]) == (202, False)
    assert [envelope.type for envelope in await _log(bus)][-1] == "command.requested"
    assert livekit.rooms == {}


async def test_asking_again_changes_nothing(
    client: httpx.AsyncClient, session_id: str, bus: Bus, persistence: Any
) -> None:
    await persistence.commit(session_id, JOINED)
    await client.delete(f"/v1/sessions/{session_id}")
    before = await _log(bus)

    again = await client.delete(f"/v1/sessions/{session_id}")

    assert again.status_code == 202
    assert await _log(bus) == before


async def test_an_ended_session_stays_as_it_is(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    await client.delete(f"/v1/sessions/{session_id}")
    before = await _log(bus)

    again = await client.delete(f"/v1/sessions/{session_id}")

    assert (again.status_code, again.json()["ended"]) == (202, True)
    assert await _log(bus) == before
    assert livekit.deleted == [session_id]


async def test_a_room_that_is_gone_already_is_fine(
    client: httpx.AsyncClient, session_id: str, livekit: Any
) -> None:
    livekit.rooms.clear()

    answer = await client.delete(f"/v1/sessions/{session_id}")

    assert answer.status_code == 202


async def test_livekit_away_keeps_the_wish_and_asks_to_try_again(
    client: httpx.AsyncClient, session_id: str, bus: Bus, livekit: Any
) -> None:
    # A small server stands in for LiveKit: a real one does not fail on demand.
    livekit.status = 503
    refused = await client.delete(f"/v1/sessions/{session_id}")
    kept = [envelope.type for envelope in await _log(bus)]
    livekit.status = 200

    again = await client.delete(f"/v1/sessions/{session_id}")

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert kept[-1] == "command.requested"
    assert (again.status_code, again.json()["ended"]) == (202, True)


async def test_a_session_of_another_tenant_is_not_touched(
    client: httpx.AsyncClient, session_id: str, livekit: Any
) -> None:
    answer = await client.delete(f"/v1/sessions/{session_id}", headers={"Authorization": "Bearer foreign"})

    assert answer.status_code == 404
    assert livekit.deleted == []
