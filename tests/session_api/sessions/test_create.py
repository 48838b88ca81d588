"""POST /v1/sessions: publish the request, create the room, sign a token; no Postgres."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from livekit import api
from tests.fixtures.broker import erase
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
AGENT = "antiphon-testonly"  # that runs flows: its name is that of the deployment
LIMITED: dict[str, Any] = {
    "flow_revision": 1,
    "conversation_id": "conv-7",
    "variables": {"guest": "Ada", "party": 2},
    "max_duration_seconds": 1800,
    "ttl_seconds": 600,
}


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def test_create_publishes_request_and_dispatch_before_it_responds(
    client: httpx.AsyncClient, bus: Bus
) -> None:
    body = {**CREATE, "metadata": {"order": "A-17", "tags": [1, None]}, "language": "en-GB"}

    response = await client.post("/v1/sessions", json=body)

    created = response.json()
    session_id = created["session_id"]
    requested, dispatched = await _log(bus)
    assert response.status_code == 201
    assert open_event(requested) == SessionRequested(
        flow_id="booking",
        flow_revision=2,
        user_id="ada",
        room=session_id,
        language="en-GB",
        metadata={"order": "A-17", "tags": [1, None]},
    )
    assert open_event(dispatched) == SessionDispatched(attempt=1, room_sid="RM_0", agent_name=AGENT)
    assert [requested.id, dispatched.id] == [f"{session_id}:requested", f"{session_id}:dispatched:1"]
    assert {envelope.tenant for envelope in (requested, dispatched)} == {"default"}


async def test_response_has_room_token_and_urls(
    client: httpx.AsyncClient, livekit: Any, running: Any
) -> None:
    response = await client.post("/v1/sessions", json=CREATE)

    created = response.json()
    session_id = created["session_id"]
    claims = api.TokenVerifier(API_KEY, API_SECRET).verify(created["token"])
    fields = {"session_id", "status", "room", "livekit_url", "token", "greeting", "events_url"}
    assert set(created) == fields
    assert (created["status"], created["room"], created["livekit_url"]) == (
        "dispatched",
        session_id,
        livekit.url,
    )
    assert created["events_url"] == f"{running.url}/v1/sessions/{session_id}/events"
    assert response.headers["location"] == f"/v1/sessions/{session_id}"
    assert "idempotent-replayed" not in response.headers
    assert claims.identity == "caller"
    assert claims.video is not None
    assert claims.video.room == session_id
    assert list(livekit.rooms) == [session_id]


async def test_session_can_be_read_before_commit(client: httpx.AsyncClient) -> None:
    session_id = (await client.post("/v1/sessions", json=CREATE)).json()["session_id"]

    session = (await client.get(f"/v1/sessions/{session_id}")).json()
    events = await client.get(f"/v1/sessions/{session_id}/events")
    turns = await client.get(f"/v1/sessions/{session_id}/turns")

    assert (session["session_id"], session["status"], session["user_id"]) == (session_id, "dispatched", "ada")
    assert (events.status_code, events.json()) == (200, {"events": [], "next": None})
    assert (turns.status_code, turns.json()) == (200, {"turns": [], "next": None})


async def test_unknown_flow_responds_404(client: httpx.AsyncClient, bus: Bus, livekit: Any) -> None:
    response = await client.post("/v1/sessions", json={**CREATE, "flow_id": "no-such-flow"})

    assert response.status_code == 404
    assert response.json()["type"].endswith("/unknown-flow")
    assert response.json()["flow_id"] == "no-such-flow"
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
        ({"metadata": {"deep": json.loads("[" * 50 + "]" * 50)}}, "metadata"),
        ({"language": "not a language"}, "language"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_invalid_field_is_named(
    change: dict[str, Any], field: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.post("/v1/sessions", json={**CREATE, **change})

    problem = response.json()
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"]


async def test_agent_of_ones_own_is_dispatched_without_a_flow(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    body = {"agent_name": "front desk", "user_id": "ada", "metadata": {"order": "A-17"}}

    created = (await client.post("/v1/sessions", json=body)).json()

    session_id = created["session_id"]
    requested, dispatched = map(open_event, await _log(bus))
    assert isinstance(requested, SessionRequested)
    assert (requested.flow_id, requested.flow_revision, requested.agent_name) == ("", 0, "front desk")
    assert isinstance(dispatched, SessionDispatched)
    assert dispatched.agent_name == "front desk"
    [dispatch] = livekit.created[0].agents
    assert dispatch.agent_name == "front desk"
    expected = {"session_id": session_id, "tenant": "default", "deployment": "testonly"}
    assert json.loads(dispatch.metadata) == expected
    further = (await client.post(f"/v1/sessions/{session_id}/token")).json()["token"]
    for token in (created["token"], further):
        config = api.TokenVerifier(API_KEY, API_SECRET).verify(token).room_config
        assert config is not None
        assert [agent.agent_name for agent in config.agents] == ["front desk"]
    shown = (await client.get(f"/v1/sessions/{session_id}")).json()
    assert (shown["flow_id"], shown["flow_revision"], shown["agent_name"]) == (None, None, "front desk")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "flow_id", "pass exactly one of flow_id and agent_name"),
        ({"flow_id": "booking", "agent_name": "desk"}, "flow_id", "pass exactly one of"),
        ({"agent_name": ""}, "agent_name", "at least 1 character"),
        ({"agent_name": "x" * 129}, "agent_name", "at most 128 characters"),
        ({"agent_name": "line\nbreak"}, "agent_name", "takes no control characters"),
        ({"agent_name": 7}, "agent_name", "takes a text"),
        ({"agent_name": AGENT}, "agent_name", f"{AGENT!r} runs flows: pass flow_id instead"),
    ],
)
async def test_session_needs_either_a_flow_or_an_agent(
    body: dict[str, Any], field: str, message: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.post("/v1/sessions", json={"user_id": "ada", **body})

    [error] = response.json()["errors"]
    assert (response.status_code, error["field"], error["in"]) == (422, field, "body")
    assert message in error["message"]


async def test_missing_field_is_named(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", json={"flow_id": "booking"})

    assert response.json()["errors"][0]["field"] == "user_id"


@pytest.mark.parametrize("text", ["é日本🙂", "a\u2028b", "'; drop table sessions; --", '{"a":1}'])
async def test_text_round_trips(text: str, client: httpx.AsyncClient) -> None:
    body = {"flow_id": "booking", "user_id": text, "metadata": {text: [text, {"\u0000": 1.5}]}}
    session_id = (await client.post("/v1/sessions", json=body)).json()["session_id"]

    session = (await client.get(f"/v1/sessions/{session_id}")).json()

    assert (session["user_id"], session["metadata"]) == (text, body["metadata"])


async def test_concurrent_creates_are_separate_sessions(client: httpx.AsyncClient, bus: Bus) -> None:
    responses = await asyncio.gather(*(client.post("/v1/sessions", json=CREATE) for _ in range(50)))

    created = {response.json()["session_id"] for response in responses}
    assert {response.status_code for response in responses} == {201}
    assert len(created) == 50
    assert len(await _log(bus)) == 100


async def test_session_ids_sort_by_creation_time(client: httpx.AsyncClient) -> None:
    created = []
    for _ in range(3):
        created.append((await client.post("/v1/sessions", json=CREATE)).json()["session_id"])
        await asyncio.sleep(0.002)  # ids have millisecond resolution

    assert created == sorted(created)


@pytest.mark.parametrize("fault", ["unavailable", "stalled"])
async def test_livekit_outage_responds_503_and_fails_the_session(
    fault: str, client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    # A real LiveKit cannot fail on demand.
    if fault == "unavailable":
        livekit.status = 503
    else:
        livekit.delay_seconds = 3

    response = await client.post("/v1/sessions", json=CREATE)

    problem = response.json()
    requested, failed, given_up = map(open_event, await _log(bus))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert problem["type"].endswith("/livekit-unavailable")
    assert isinstance(requested, SessionRequested)
    assert isinstance(failed, SessionDispatchFailed)
    assert failed.retryable
    assert isinstance(given_up, SessionFailed)
    shown = (await client.get(f"/v1/sessions/{problem['session_id']}")).json()
    assert (shown["status"], shown["reason"]) == ("failed", "dispatch_failed")


async def test_wrong_livekit_credentials_respond_502(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    livekit.status = 401

    response = await client.post("/v1/sessions", json=CREATE)

    failed = open_event((await _log(bus))[1])
    assert response.status_code == 502
    assert "retry-after" not in response.headers
    assert response.json()["type"].endswith("/livekit-refused")
    assert isinstance(failed, SessionDispatchFailed)
    assert not failed.retryable


async def test_broker_outage_responds_503_and_creates_nothing(
    client: httpx.AsyncClient, nats_server: NatsServer, livekit: Any
) -> None:
    nats_server.stop()

    response = await client.post("/v1/sessions", json=CREATE)

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["type"].endswith("/broker-unavailable")
    assert livekit.created == []


async def test_a_broker_that_has_lost_its_data_responds_503_until_they_are_restored(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    """Keys and flows are in memory; buckets that are made again are read again."""
    kept = {name: await _entries(bus, name) for name in ("keys", "flows")}
    await erase(bus)

    response = await client.post("/v1/sessions", json=CREATE)
    assert response.status_code == 503
    assert response.json()["type"].endswith("/broker-unavailable")
    assert livekit.created == []

    await bus.ensure_buckets()
    for name, entries in kept.items():
        for key, value in entries:
            await (await bus.bucket(name)).put(key, value)
    await bus.ensure()
    async with asyncio.timeout(30):
        while (await client.post("/v1/sessions", json=CREATE)).status_code != 201:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.1)


async def _entries(bus: Bus, name: str) -> list[tuple[str, bytes]]:
    return [entry async for entry in (await bus.bucket(name)).entries()]


async def test_broker_outage_after_the_request_deletes_the_room(
    client: httpx.AsyncClient, nats_server: NatsServer, livekit: Any
) -> None:
    livekit.on_create = nats_server.stop

    response = await client.post("/v1/sessions", json=CREATE)

    assert response.status_code == 503
    assert len(livekit.created) == 1
    assert livekit.rooms == {}


async def test_create_join_and_end_need_no_postgres(
    client: httpx.AsyncClient, postgres_server: Postgres
) -> None:
    postgres_server.stop()

    created = await client.post("/v1/sessions", json=CREATE)
    session_id = created.json()["session_id"]
    read = await client.get(f"/v1/sessions/{session_id}")
    listed = await client.get("/v1/sessions")
    followed = await client.get(f"/v1/sessions/{session_id}/events", headers={"Accept": "text/event-stream"})
    token = await client.post(f"/v1/sessions/{session_id}/token")
    flows = await client.get("/v1/flows")
    ready = await client.get("/health/ready")
    ended = await client.post(f"/v1/sessions/{session_id}/end")

    assert created.status_code == 201
    for response in (read, listed, followed):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["type"].endswith("/database-unavailable")
    assert (token.status_code, flows.status_code, ready.status_code) == (200, 200, 200)
    assert not ready.json()["reported"]["postgres"]["ok"]
    assert (ended.status_code, ended.json()["ended"]) == (200, True)


async def test_metadata_is_not_sent_to_livekit(client: httpx.AsyncClient, livekit: Any) -> None:
    await client.post("/v1/sessions", json={**CREATE, "metadata": {"card": "4111"}})

    assert "4111" not in str(livekit.created)
    assert set(json.loads(livekit.created[0].metadata)) == {"session_id", "tenant", "deployment"}


async def test_a_sealed_stream_fails_every_create(client: httpx.AsyncClient, bus: Bus) -> None:
    info = await bus.connection.api("STREAM.INFO.SESSIONS")
    await bus.connection.api("STREAM.UPDATE.SESSIONS", info["config"] | {"sealed": True})

    async with asyncio.timeout(60):
        responses = await asyncio.gather(*(client.post("/v1/sessions", json=CREATE) for _ in range(20)))

    assert {response.status_code for response in responses} == {503}


async def test_limits_variables_and_conversation_are_on_record_and_shown(
    client: httpx.AsyncClient, bus: Bus, livekit: Any
) -> None:
    created = (await client.post("/v1/sessions", json={**CREATE, **LIMITED})).json()

    [requested, _] = await _log(bus)
    event = open_event(requested)
    assert {name: getattr(event, name) for name in LIMITED} == LIMITED
    shown = (await client.get(f"/v1/sessions/{created['session_id']}")).json()
    assert {name: shown[name] for name in LIMITED} == LIMITED
    assert livekit.created[0].empty_timeout > LIMITED["ttl_seconds"]


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"flow_revision": 9}, 404, "has no revision 9; the newest is 2"),
        ({"flow_id": "nothing", "flow_revision": 1}, 404, "There is no flow 'nothing'"),
        ({"flow_revision": 0}, 422, "flow_revision"),
        ({"flow_id": None, "agent_name": "desk", "flow_revision": 1}, 422, "flow_revision"),
        ({"max_duration_seconds": 0}, 422, "max_duration_seconds"),
        ({"max_duration_seconds": 86_401}, 422, "max_duration_seconds"),
        ({"ttl_seconds": "60"}, 422, "ttl_seconds"),
        ({"variables": []}, 422, "variables"),
        ({"variables": {"text": "x" * 17_000}}, 422, "variables"),
        ({"variables": {"deep": json.loads("[" * 50 + "]" * 50)}}, 422, "variables"),
        ({"conversation_id": ""}, 422, "conversation_id"),
    ],
)
async def test_wrong_limit_is_refused(
    change: dict[str, Any], status: int, named: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.post("/v1/sessions", json={**CREATE, **change})

    assert response.status_code == status
    assert named in response.json()["detail"]
