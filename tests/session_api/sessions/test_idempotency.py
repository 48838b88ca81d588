"""The same key and body return the same session, checked against its events only."""

import asyncio
from typing import Any

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.ids import session_id_for_key
from antiphon.contracts.subjects import ALL_EVENTS
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.events import EventReader
from antiphon.session_api.sessions.idempotency import (
    VIEW_PAUSE_SECONDS,
    VIEW_SECONDS,
    KnownSessions,
    replayed_session,
)
from antiphon.session_api.sessions.schemas import CreateRequest

CREATE: dict[str, Any] = {"flow_id": "booking", "user_id": "ada", "metadata": {"a": 1, "b": [2]}}
KEY = {"Idempotency-Key": "order-17"}


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_replay_returns_the_same_session(client: httpx.AsyncClient, bus: Bus) -> None:
    first = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    second = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["session_id"] == second.json()["session_id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json()["token"]
    assert len(await _log(bus)) == 2


async def test_field_order_does_not_matter(client: httpx.AsyncClient) -> None:
    turned = {"metadata": {"b": [2], "a": 1}, "user_id": "ada", "flow_id": "booking", "language": None}

    first = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    second = await client.post("/v1/sessions", json=turned, headers=KEY)

    assert first.json()["session_id"] == second.json()["session_id"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": "grace"}, "user_id"),
        ({"metadata": {"a": 2, "b": [2]}}, "metadata"),
        ({"language": "de"}, "language"),
        ({"flow_id": None, "agent_name": "desk"}, "flow_id flow_revision agent_name"),
        ({"flow_revision": 1}, "flow_revision"),
        ({"variables": {"a": 1}}, "variables"),
        ({"conversation_id": "c"}, "conversation_id"),
        ({"max_duration_seconds": 60, "ttl_seconds": 60}, "max_duration_seconds ttl_seconds"),
    ],
)
async def test_same_key_with_another_body_responds_422(
    change: dict[str, Any], field: str, client: httpx.AsyncClient, bus: Bus
) -> None:
    await client.post("/v1/sessions", json=CREATE, headers=KEY)

    response = await client.post("/v1/sessions", json={**CREATE, **change}, headers=KEY)

    assert response.status_code == 422
    assert response.json()["type"].endswith("/idempotency-key-reused")
    assert [error["field"] for error in response.json()["errors"]] == field.split()
    assert len(await _log(bus)) == 2


async def test_concurrent_requests_create_one_session(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    responses = await asyncio.gather(
        *(client.post("/v1/sessions", json=CREATE, headers=KEY) for _ in range(10))
    )

    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["session_id"] for response in responses}) == 1
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert [envelope.type for envelope in await _log(bus)] == ["session.requested", "session.dispatched"]
    assert len(livekit.rooms) == 1


async def test_key_belongs_to_its_tenant(client: httpx.AsyncClient, put_flow: Any, until: Any) -> None:
    await put_flow("booking", tenant="other")
    foreign = {**KEY, "Authorization": "Bearer foreign"}

    async def flow_is_watched() -> bool:
        return bool((await client.get("/v1/flows", headers=foreign)).json()["flows"])

    await until(flow_is_watched)
    ours = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    theirs = await client.post("/v1/sessions", json=CREATE, headers=foreign)

    assert theirs.status_code == 201
    assert ours.json()["session_id"] != theirs.json()["session_id"]


async def test_replay_after_a_failed_dispatch_dispatches_again(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    # A real LiveKit cannot fail on demand.
    livekit.status = 503
    failed = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    livekit.status = 200

    healed = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    session_id = healed.json()["session_id"]
    assert (failed.status_code, healed.status_code) == (503, 201)
    assert failed.json()["session_id"] == session_id
    assert healed.headers["idempotent-replayed"] == "true"
    assert [envelope.id.removeprefix(session_id) for envelope in await _log(bus)] == [
        ":requested",
        ":dispatch_failed:1",
        ":dispatched:2",
    ]


async def test_replay_dispatches_after_a_crash_before_dispatch(
    client: httpx.AsyncClient, bus: Bus, livekit: Any, running: Any
) -> None:
    session_id = session_id_for_key(running.dependencies.create._secret, "default", "order-17")
    requested = CreateRequest(**CREATE).as_event(session_id, 2)
    await running.dependencies.create._publisher.publish_first("default", session_id, requested)

    response = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (response.status_code, response.json()["session_id"]) == (201, session_id)
    assert list(livekit.rooms) == [session_id]
    assert [envelope.type for envelope in await _log(bus)] == ["session.requested", "session.dispatched"]


async def test_replay_of_an_ended_session_has_no_token(client: httpx.AsyncClient, persistence: Any) -> None:
    created = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    closed = SessionClosed(
        reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0
    )
    await persistence.commit(created.json()["session_id"], closed)

    replayed = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (replayed.status_code, replayed.json()["status"], replayed.json()["token"]) == (
        201,
        "closed",
        None,
    )


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "tab\tinside"])
async def test_invalid_key_responds_422(key: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", json=CREATE, headers={"Idempotency-Key": key})

    assert response.status_code == 422
    assert response.json()["errors"][0]["in"] == "header"
    assert response.json()["errors"][0]["field"].lower() == "idempotency-key"


async def test_key_expires_with_its_request(client: httpx.AsyncClient, persistence: Any, purge: Any) -> None:
    created = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    await persistence.catch_up(created.json()["session_id"])
    await purge()
    late = AgentReady(greeting="Good evening.", ready_ms=640.0)
    await persistence.commit(created.json()["session_id"], late)

    response = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert response.status_code == 409
    assert response.json()["type"].endswith("/idempotency-key-expired")


async def test_replica_without_the_request_responds_503(bus: Bus) -> None:
    # A replica that lags behind looks like an empty stream; a single server never lags.
    requested = CreateRequest(**CREATE).as_event("ses_1", 2)

    with pytest.raises(Problem) as problem:
        await replayed_session(EventReader(bus), "default", "ses_00000000000000000000000000", requested)

    assert problem.value.status_code == 503
    assert problem.value.headers == {"Retry-After": "1"}


async def test_a_newer_revision_does_not_change_a_request_that_names_none(
    client: httpx.AsyncClient, put_flow: Any
) -> None:
    first = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    await put_flow("booking", 3)
    async with asyncio.timeout(60):
        while (await client.get("/v1/flows")).json()["flows"][0]["revision"] != 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    second = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert second.json()["session_id"] == first.json()["session_id"]


async def test_a_key_that_the_stream_forgot_does_not_reach_the_old_session(
    client: httpx.AsyncClient, bus: Bus, persistence: Any, purge: Any
) -> None:
    first = (await client.post("/v1/sessions", json=CREATE, headers=KEY)).json()
    await persistence.catch_up(first["session_id"])
    await purge()  # seven days later

    response = await client.post("/v1/sessions", json={**CREATE, "user_id": "grace"}, headers=KEY)

    assert response.status_code == 409
    assert response.json()["type"].endswith("/idempotency-key-expired")
    assert response.json()["session_id"] == first["session_id"]
    assert await _log(bus) == []


class Unanswering:
    """Views whose Postgres hangs."""

    asked = 0

    async def has_session(self, tenant: str, session_id: str) -> bool:
        self.asked += 1
        await asyncio.sleep(3600)
        raise AssertionError


async def test_a_postgres_that_hangs_delays_one_create_for_less_than_half_a_second() -> None:
    time, views = FixedTime(), Unanswering()
    known = KnownSessions(views, now=time)
    started = asyncio.get_running_loop().time()

    assert not await known.has("default", "ses_1")
    assert not await known.has("default", "ses_2")  # not asked again at once

    assert VIEW_SECONDS <= 0.5
    assert asyncio.get_running_loop().time() - started >= VIEW_SECONDS - 0.05
    assert views.asked == 1
    time.seconds += VIEW_PAUSE_SECONDS
    assert not await known.has("default", "ses_3")
    assert views.asked == 2


class FixedTime:
    """A monotonic clock that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_create_with_a_key_works_without_postgres(start: Any, postgres_server: Postgres) -> None:
    running = await start()
    headers = {"Authorization": "Bearer writer"}
    postgres_server.stop()
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=15) as client:
        first = await client.post("/v1/sessions", json=CREATE, headers=KEY)
        second = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["session_id"] == second.json()["session_id"]
