"""POST /v1/sessions: onto the log, then the room, then the token; no database anywhere."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from livekit import api
from tests.session_api.fake_livekit import API_KEY, API_SECRET

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.session import (
    SessionDispatched,
    SessionDispatchFailed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import ALL_EVENTS

CREATE: dict[str, Any] = {"flow_id": "booking", "user_id": "ada"}


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_a_session_is_requested_and_dispatched_before_the_answer(
    client: httpx.AsyncClient, bus: Bus
) -> None:
    wish = {**CREATE, "metadata": {"order": "A-17", "tags": [1, None]}, "language": "en-GB"}

    answer = await client.post("/v1/sessions", json=wish)

    made = answer.json()
    session_id = made["session_id"]
    requested, dispatched = await _log(bus)
    assert answer.status_code == 201
    assert open_event(requested) == SessionRequested(
        flow_id="booking",
        flow_revision=2,
        user_id="ada",
        room=session_id,
        language="en-GB",
        metadata={"order": "A-17", "tags": [1, None]},
    )
    assert open_event(dispatched) == SessionDispatched(attempt=1, room_sid="RM_0", agent_name="antiphon")
    assert [requested.id, dispatched.id] == [f"{session_id}:requested", f"{session_id}:dispatched:1"]
    assert {envelope.tenant for envelope in (requested, dispatched)} == {"default"}


async def test_the_answer_holds_all_that_a_caller_needs(
    client: httpx.AsyncClient, livekit: Any, running: Any
) -> None:
    answer = await client.post("/v1/sessions", json=CREATE)

    made = answer.json()
    session_id = made["session_id"]
    claims = api.TokenVerifier(API_KEY, API_SECRET).verify(made["token"])
    assert set(made) == {"session_id", "status", "room", "livekit_url", "token", "events_url"}
    assert (made["status"], made["room"], made["livekit_url"]) == ("dispatched", session_id, livekit.url)
    assert made["events_url"] == f"{running.url}/v1/sessions/{session_id}/events"
    assert answer.headers["location"] == f"/v1/sessions/{session_id}"
    assert "idempotent-replayed" not in answer.headers
    assert claims.identity == "caller"
    assert claims.video is not None
    assert claims.video.room == session_id
    assert list(livekit.rooms) == [session_id]


async def test_a_session_can_be_read_at_once(client: httpx.AsyncClient) -> None:
    session_id = (await client.post("/v1/sessions", json=CREATE)).json()["session_id"]

    session = (await client.get(f"/v1/sessions/{session_id}")).json()
    events = await client.get(f"/v1/sessions/{session_id}/events")
    turns = await client.get(f"/v1/sessions/{session_id}/turns")

    assert (session["session_id"], session["status"], session["user_id"]) == (session_id, "dispatched", "ada")
    assert (events.status_code, events.json()) == (200, {"events": [], "next": None})
    assert (turns.status_code, turns.json()) == (200, {"turns": [], "next": None})


async def test_an_unknown_flow_makes_nothing(client: httpx.AsyncClient, bus: Bus, livekit: Any) -> None:
    answer = await client.post("/v1/sessions", json={**CREATE, "flow_id": "no-such-flow"})

    assert answer.status_code == 404
    assert answer.json()["type"].endswith("/unknown-flow")
    assert answer.json()["flow_id"] == "no-such-flow"
    assert await _log(bus) == []
    assert livekit.created == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"flow_id": None}, "flow_id"),
        ({"flow_id": ""}, "flow_id"),
        ({"user_id": 7}, "user_id"),
        ({"user_id": "a" * 257}, "user_id"),
        ({"user_id": "null\u0000"}, "user_id"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"large": "x" * 16_384}}, "metadata"),
        ({"language": "not a language"}, "language"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_an_invalid_field_is_named(
    change: dict[str, Any], field: str, rejecting: httpx.AsyncClient
) -> None:
    answer = await rejecting.post("/v1/sessions", json={**CREATE, **change})

    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"]


async def test_a_missing_field_is_named(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", json={"flow_id": "booking"})

    assert answer.json()["errors"][0]["field"] == "user_id"


@pytest.mark.parametrize("text", ["é日本🙂", "a\u2028b", "'; drop table sessions; --", '{"a":1}'])
async def test_text_comes_back_as_it_went_in(text: str, client: httpx.AsyncClient) -> None:
    wish = {"flow_id": "booking", "user_id": text, "metadata": {text: [text, {"\u0000": 1.5}]}}
    session_id = (await client.post("/v1/sessions", json=wish)).json()["session_id"]

    session = (await client.get(f"/v1/sessions/{session_id}")).json()

    assert (session["user_id"], session["metadata"]) == (text, wish["metadata"])


async def test_concurrent_creates_are_sessions_of_their_own(client: httpx.AsyncClient, bus: Bus) -> None:
    answers = await asyncio.gather(*(client.post("/v1/sessions", json=CREATE) for _ in range(50)))

    made = {answer.json()["session_id"] for answer in answers}
    assert {answer.status_code for answer in answers} == {201}
    assert len(made) == 50
    assert len(await _log(bus)) == 100


async def test_session_ids_sort_by_their_time(client: httpx.AsyncClient) -> None:
    made = []
    for _ in range(3):
        made.append((await client.post("/v1/sessions", json=CREATE)).json()["session_id"])
        await asyncio.sleep(0.002)  # ids are of the millisecond

    assert made == sorted(made)


@pytest.mark.parametrize("fault", ["away", "stalled"])
async def test_livekit_away_is_a_503_and_on_the_log(
    fault: str, client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    # A small server stands in for LiveKit: a real one does not fail or stall on demand.
    if fault == "away":
        livekit.status = 503
    else:
        livekit.delay_seconds = 3

    answer = await client.post("/v1/sessions", json=CREATE)

    problem = answer.json()
    requested, failed, given_up = map(open_event, await _log(bus))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert problem["type"].endswith("/livekit-unavailable")
    assert isinstance(requested, SessionRequested)
    assert isinstance(failed, SessionDispatchFailed)
    assert failed.retryable
    assert isinstance(given_up, SessionFailed)
    shown = (await client.get(f"/v1/sessions/{problem['session_id']}")).json()
    assert (shown["status"], shown["reason"]) == ("failed", "dispatch_failed")


async def test_wrong_livekit_credentials_are_no_reason_to_try_again(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    livekit.status = 401

    answer = await client.post("/v1/sessions", json=CREATE)

    failed = open_event((await _log(bus))[1])
    assert answer.status_code == 502
    assert "retry-after" not in answer.headers
    assert answer.json()["type"].endswith("/livekit-refused")
    assert isinstance(failed, SessionDispatchFailed)
    assert not failed.retryable


async def test_broker_away_is_a_503_and_nothing_is_made(
    client: httpx.AsyncClient, nats_server: NatsServer, livekit: Any
) -> None:
    nats_server.stop()

    answer = await client.post("/v1/sessions", json=CREATE)

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"].endswith("/broker-unavailable")
    assert livekit.created == []


async def test_a_broker_that_goes_between_request_and_dispatch_leaves_no_room(
    client: httpx.AsyncClient, nats_server: NatsServer, livekit: Any
) -> None:
    livekit.on_create = nats_server.stop

    answer = await client.post("/v1/sessions", json=CREATE)

    assert answer.status_code == 503
    assert len(livekit.created) == 1
    assert livekit.rooms == {}


async def test_creating_joining_and_ending_need_no_postgres(
    client: httpx.AsyncClient, postgres_server: Postgres
) -> None:
    postgres_server.stop()

    made = await client.post("/v1/sessions", json=CREATE)
    session_id = made.json()["session_id"]
    read = await client.get(f"/v1/sessions/{session_id}")
    listed = await client.get("/v1/sessions")
    followed = await client.get(f"/v1/sessions/{session_id}/events", headers={"Accept": "text/event-stream"})
    token = await client.post(f"/v1/sessions/{session_id}/token")
    flows = await client.get("/v1/flows")
    ready = await client.get("/health/ready")
    ended = await client.delete(f"/v1/sessions/{session_id}")

    assert made.status_code == 201
    for answer in (read, listed, followed):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["type"].endswith("/database-unavailable")
    assert (token.status_code, flows.status_code, ready.status_code) == (200, 200, 200)
    assert not ready.json()["reported"]["postgres"]["ok"]
    assert (ended.status_code, ended.json()["ended"]) == (202, True)


async def test_nothing_secret_goes_to_livekit_or_the_token(client: httpx.AsyncClient, livekit: Any) -> None:
    await client.post("/v1/sessions", json={**CREATE, "metadata": {"card": "4111"}})

    assert "4111" not in str(livekit.created)
    assert set(json.loads(livekit.created[0].metadata)) == {"session_id", "tenant"}
