"""`wait=ready`: on create and on get, by the events on the bus."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from antiphon.chassis.bus import Bus, outgoing
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentJoined, AgentLeft, AgentReady, AgentStateChanged
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.session_api.sessions.ready import ReadyWaits

CREATE: dict[str, Any] = {"flow_id": "booking", "user_id": "ada"}
KEY = {"Idempotency-Key": "order-17"}
WAIT = {"wait": "ready", "timeout_seconds": "60"}
UNKNOWN = "ses_00000000000000000000000000"
JOINED = AgentJoined(job_id="AJ_1", worker_id="w", epoch="AJ_1", identity="agent")
LISTENS = AgentStateChanged(old_state="initializing", new_state="listening")
READY = AgentReady(greeting="Good evening.", ready_ms=900.0)
KILLED = AgentLeft(
    job_id="AJ_1", epoch="AJ_1", reason="killed", fault=FaultSide.AGENT, duration_seconds=1.0, turns=0
)
CLOSED = SessionClosed(reason=CloseReason.ERROR, fault=FaultSide.AGENT, duration_seconds=1.0, turns=0)


async def _publish(bus: Bus, session_id: str, *events: Event) -> None:
    for number, event in enumerate(events):
        envelope = seal(
            event,
            id=f"{session_id}:agent:{event.TYPE}:{number}",
            session_id=session_id,
            tenant="default",
            producer="agent",
            producerseq=number,
            time=datetime.now(UTC),
        )
        await bus.publish(outgoing(envelope))


async def _waiting(running: Any, number: int = 1) -> None:
    async with asyncio.timeout(60):
        while running.dependencies.ready._waiting != number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_create_answers_with_the_greeting_when_the_agent_is_ready(
    client: httpx.AsyncClient, running: Any, bus: Bus, livekit: Any
) -> None:
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    [room] = livekit.created
    await _publish(bus, room.name, JOINED, READY)

    response = await creating

    assert response.status_code == 201
    given = response.json()
    assert (given["status"], given["greeting"]) == ("ready", "Good evening.")
    assert given["token"]


async def test_an_agent_that_waits_for_the_caller_is_ready(
    client: httpx.AsyncClient, running: Any, bus: Bus, livekit: Any
) -> None:
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    await _publish(bus, livekit.created[0].name, JOINED, LISTENS)

    response = await creating

    assert (response.status_code, response.json()["status"]) == (201, "joined")


async def test_an_agent_that_was_killed_is_not_ready(client: httpx.AsyncClient, bus: Bus) -> None:
    created = (await client.post("/v1/sessions", json=CREATE)).json()
    await _publish(bus, created["session_id"], JOINED, LISTENS, READY, KILLED)

    path = f"/v1/sessions/{created['session_id']}"
    response = await client.get(path, params={**WAIT, "timeout_seconds": "1"})

    assert response.status_code == 202


async def test_a_session_that_fails_ends_the_wait(
    client: httpx.AsyncClient, running: Any, bus: Bus, livekit: Any
) -> None:
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    await _publish(bus, livekit.created[0].name, JOINED, CLOSED)

    response = await creating

    assert (response.status_code, response.json()["status"]) == (202, "closed")
    assert response.json()["token"] is None


async def test_the_deadline_answers_with_the_state_reached_and_get_waits_again(
    client: httpx.AsyncClient, running: Any, bus: Bus
) -> None:
    created = await client.post("/v1/sessions", json=CREATE, params={**WAIT, "timeout_seconds": "1"})
    assert (created.status_code, created.json()["status"]) == (202, "dispatched")
    assert created.json()["token"]
    path = f"/v1/sessions/{created.json()['session_id']}"

    again = await client.get(path, params={**WAIT, "timeout_seconds": "1"})
    waiting = asyncio.create_task(client.get(path, params=WAIT))
    await _waiting(running)
    await _publish(bus, created.json()["session_id"], JOINED, READY)

    assert (again.status_code, again.json()["status"]) == (202, "dispatched")
    assert ((await waiting).status_code, (await waiting).json()["greeting"]) == (200, "Good evening.")


async def test_a_replayed_create_waits_too(client: httpx.AsyncClient, bus: Bus) -> None:
    first = (await client.post("/v1/sessions", json=CREATE, headers=KEY)).json()
    await _publish(bus, first["session_id"], JOINED, READY)

    response = await client.post("/v1/sessions", json=CREATE, headers=KEY, params=WAIT)

    assert response.status_code == 201
    assert response.headers["idempotent-replayed"] == "true"
    assert response.json()["greeting"] == "Good evening."


async def test_waits_need_no_postgres(
    client: httpx.AsyncClient, running: Any, bus: Bus, postgres_server: Postgres, livekit: Any
) -> None:
    postgres_server.stop()
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    await _publish(bus, livekit.created[0].name, JOINED, READY)
    created = await creating

    again = await client.get(f"/v1/sessions/{created.json()['session_id']}", params=WAIT)

    assert (created.status_code, again.status_code) == (201, 200)
    assert again.json()["greeting"] == "Good evening."


@pytest.mark.timeout(120)
async def test_a_broker_that_stops_during_the_wait_is_202_at_the_deadline(
    client: httpx.AsyncClient, running: Any, nats_server: NatsServer
) -> None:
    params = {**WAIT, "timeout_seconds": "4"}
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=params))
    await _waiting(running)
    nats_server.stop()

    response = await creating

    assert (response.status_code, response.json()["status"]) == (202, "dispatched")


async def test_a_client_that_disconnects_ends_its_wait(client: httpx.AsyncClient, running: Any) -> None:
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    creating.cancel()

    await _waiting(running, 0)


async def test_a_server_that_stops_ends_the_waits(client: httpx.AsyncClient, running: Any) -> None:
    creating = asyncio.create_task(client.post("/v1/sessions", json=CREATE, params=WAIT))
    await _waiting(running)
    running.stop.set()

    assert (await creating).status_code == 202


async def test_one_more_wait_than_allowed_answers_at_once(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.dependencies.ready, "_waiters", 0)
    started = time.monotonic()

    response = await client.post("/v1/sessions", json=CREATE, params=WAIT)

    assert response.status_code == 202
    assert time.monotonic() - started < 30


async def test_waits_of_a_key_and_of_a_tenant_are_limited(
    client: httpx.AsyncClient, running: Any, livekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: ReadyWaits = running.dependencies.ready
    monkeypatch.setattr(waits, "_of_key", 2)
    monkeypatch.setattr(waits, "_of_tenant", 3)
    reader = {"Authorization": "Bearer reader"}
    session_id = (await client.post("/v1/sessions", json=CREATE)).json()["session_id"]
    path = f"/v1/sessions/{session_id}"
    waiting = [asyncio.create_task(client.get(path, params=WAIT)) for _ in range(2)]
    await _waiting(running, 2)
    rooms = len(livekit.created)

    of_key = await client.post("/v1/sessions", json=CREATE, params=WAIT)
    waiting.append(asyncio.create_task(client.get(path, params=WAIT, headers=reader)))
    await _waiting(running, 3)
    of_tenant = await client.get(path, params=WAIT, headers=reader)
    foreign = await client.get(path, params=WAIT, headers={"Authorization": "Bearer foreign"})

    assert len(livekit.created) == rooms  # the one over the limit created nothing
    for refused, limit in ((of_key, 2), (of_tenant, 3)):
        assert refused.status_code == 429
        assert refused.json()["type"].endswith("/quota-exceeded")
        assert (refused.json()["quota"], refused.json()["limit"]) == ("waits", limit)
        assert refused.headers["retry-after"]
    assert foreign.status_code == 404
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(60):
        while waits._keys or waits._tenants:  # noqa: ASYNC110 - nothing to wait on
            await asyncio.sleep(0.01)


async def test_fifty_waits_for_fifty_sessions(
    client: httpx.AsyncClient, running: Any, bus: Bus, livekit: Any
) -> None:
    limits = httpx.Limits(max_connections=60)
    headers = client.headers
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=90, limits=limits) as many:
        creating = [
            asyncio.create_task(many.post("/v1/sessions", json=CREATE, params=WAIT)) for _ in range(50)
        ]
        await _waiting(running, 50)
        for room in livekit.created:
            await _publish(bus, room.name, JOINED, READY)
        responses = await asyncio.gather(*creating)

    assert {response.status_code for response in responses} == {201}


async def test_unknown_session_is_404_at_once(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/v1/sessions/{UNKNOWN}", params=WAIT)).status_code == 404


@pytest.mark.parametrize("params", [{"wait": "now"}, {**WAIT, "timeout_seconds": "61"}])
async def test_wrong_wait_is_refused(params: dict[str, str], rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", json=CREATE, params=params)

    assert response.status_code == 422


async def test_a_wait_leaves_no_subscription(client: httpx.AsyncClient, running: Any, bus: Bus) -> None:
    waits: ReadyWaits = running.dependencies.ready
    await client.post("/v1/sessions", json=CREATE, params={**WAIT, "timeout_seconds": "1"})

    assert waits._bus._subscriptions._by_subject == {}
