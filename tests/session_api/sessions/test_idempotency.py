"""The same key and body is the same session, by the log alone."""

import asyncio
from typing import Any

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.ids import session_id_for_key
from antiphon.contracts.subjects import ALL_EVENTS
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.events import EventReader
from antiphon.session_api.sessions.idempotency import replayed_session
from antiphon.session_api.sessions.schemas import CreateRequest

CREATE: dict[str, Any] = {"flow_id": "booking", "user_id": "ada", "metadata": {"a": 1, "b": [2]}}
KEY = {"Idempotency-Key": "order-17"}


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_a_replay_answers_with_the_same_session(client: httpx.AsyncClient, bus: Bus) -> None:
    first = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    second = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["session_id"] == second.json()["session_id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json()["token"]
    assert len(await _log(bus)) == 2


async def test_the_order_of_a_body_s_fields_is_no_difference(client: httpx.AsyncClient) -> None:
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
    ],
)
async def test_the_same_key_with_another_body_is_refused(
    change: dict[str, Any], field: str, client: httpx.AsyncClient, bus: Bus
) -> None:
    await client.post("/v1/sessions", json=CREATE, headers=KEY)

    answer = await client.post("/v1/sessions", json={**CREATE, **change}, headers=KEY)

    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/idempotency-key-reused")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert len(await _log(bus)) == 2


async def test_ten_at_once_make_one_session(client: httpx.AsyncClient, bus: Bus, livekit: Any) -> None:
    answers = await asyncio.gather(
        *(client.post("/v1/sessions", json=CREATE, headers=KEY) for _ in range(10))
    )

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["session_id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert [envelope.type for envelope in await _log(bus)] == ["session.requested", "session.dispatched"]
    assert len(livekit.rooms) == 1


async def test_a_key_belongs_to_its_tenant(client: httpx.AsyncClient, put_flow: Any, until: Any) -> None:
    await put_flow("booking", tenant="other")
    foreign = {**KEY, "Authorization": "Bearer foreign"}

    async def flow_is_there() -> bool:
        return bool((await client.get("/v1/flows", headers=foreign)).json()["flows"])

    await until(flow_is_there)
    ours = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    theirs = await client.post("/v1/sessions", json=CREATE, headers=foreign)

    assert theirs.status_code == 201
    assert ours.json()["session_id"] != theirs.json()["session_id"]


async def test_a_replay_after_a_failed_dispatch_dispatches_again(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    # A small server stands in for LiveKit: a real one does not fail on demand.
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


async def test_a_create_that_died_before_its_dispatch_is_healed_by_its_replay(
    client: httpx.AsyncClient, bus: Bus, livekit: Any, running: Any
) -> None:
    session_id = session_id_for_key("default", "order-17")
    requested = CreateRequest(**CREATE).as_event(session_id, 2)
    await running.dependencies.create._publisher.publish_first("default", session_id, requested)

    answer = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (answer.status_code, answer.json()["session_id"]) == (201, session_id)
    assert list(livekit.rooms) == [session_id]
    assert [envelope.type for envelope in await _log(bus)] == ["session.requested", "session.dispatched"]


async def test_a_replay_of_an_ended_session_shows_the_end_and_lets_nobody_in(
    client: httpx.AsyncClient, persistence: Any
) -> None:
    made = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    closed = SessionClosed(
        reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0
    )
    await persistence.commit(made.json()["session_id"], closed)

    replayed = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert (replayed.status_code, replayed.json()["status"], replayed.json()["token"]) == (
        201,
        "closed",
        None,
    )


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "tab\tinside"])
async def test_a_key_that_is_none_is_refused(key: str, rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", json=CREATE, headers={"Idempotency-Key": key})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["in"] == "header"
    assert answer.json()["errors"][0]["field"].lower() == "idempotency-key"


async def test_a_key_whose_request_the_stream_forgot_is_too_old(
    client: httpx.AsyncClient, persistence: Any, purge: Any
) -> None:
    made = await client.post("/v1/sessions", json=CREATE, headers=KEY)
    await persistence.catch_up(made.json()["session_id"])
    await purge()
    late = AgentReady(greeting="Good evening.", ready_ms=640.0)
    await persistence.commit(made.json()["session_id"], late)

    answer = await client.post("/v1/sessions", json=CREATE, headers=KEY)

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/idempotency-key-expired")


async def test_replica_without_the_request_responds_503(bus: Bus) -> None:
    # A replica that lags behind looks like an empty stream; a single server never lags.
    requested = CreateRequest(**CREATE).as_event("ses_1", 2)

    with pytest.raises(Problem) as problem:
        await replayed_session(EventReader(bus), "default", "ses_00000000000000000000000000", requested)

    assert problem.value.status_code == 503
    assert problem.value.headers == {"Retry-After": "1"}
