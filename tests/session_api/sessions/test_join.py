"""POST /v1/sessions/{id}/token, and join tokens checked with LiveKit's own verifier."""

import base64
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from livekit import api
from tests.session_api.fake_livekit import API_KEY, API_SECRET

from antiphon.chassis.bus import Bus
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Family
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionAdopted, SessionClosed
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import event_subject
from antiphon.contracts.supervision import admitted, is_supervisor_identity
from antiphon.session_api.sessions.join import JoinTokens

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"
UNKNOWN = "ses_00000000000000000000000000"
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)


def _claims(token: str) -> api.access_token.Claims:
    return api.TokenVerifier(API_KEY, API_SECRET).verify(token)


async def test_identity_defaults_to_caller(client: httpx.AsyncClient, session_id: str) -> None:
    response = await client.post(f"/v1/sessions/{session_id}/token")

    given = response.json()
    assert response.status_code == 200
    assert (given["session_id"], given["room"], given["identity"]) == (session_id, session_id, "caller")
    assert _claims(given["token"]).identity == "caller"


async def test_token_for_another_participant(client: httpx.AsyncClient, session_id: str) -> None:
    body = {"identity": "supervisor-7", "name": "Grace", "ttl_seconds": 120}

    given = (await client.post(f"/v1/sessions/{session_id}/token", json=body)).json()

    claims = _claims(given["token"])
    assert (claims.identity, claims.name) == ("supervisor-7", "Grace")
    assert given["expires_in_seconds"] == 120


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"identity": "agent-ses_1"}, "identity"),
        ({"identity": ""}, "identity"),
        ({"ttl_seconds": 1}, "ttl_seconds"),
        ({"ttl_seconds": "120"}, "ttl_seconds"),
        ({"role": "owner"}, "role"),
    ],
)
async def test_invalid_field_is_named(body: dict[str, Any], field: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post(f"/v1/sessions/{UNKNOWN}/token", json=body)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_ended_session_responds_409(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED)

    response = await client.post(f"/v1/sessions/{session_id}/token")

    assert response.status_code == 409
    assert response.json()["type"].endswith("/session-ended")


async def test_ended_session_responds_409_after_a_purge(
    client: httpx.AsyncClient, session_id: str, persistence: Any, purge: Any
) -> None:
    await persistence.commit(session_id, CLOSED)
    await purge()

    response = await client.post(f"/v1/sessions/{session_id}/token")

    assert response.status_code == 409


async def test_unknown_session_responds_404(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/v1/sessions/{UNKNOWN}/token")

    assert response.status_code == 404
    assert response.json()["type"].endswith("/unknown-session")


async def test_session_of_another_tenant_responds_404(client: httpx.AsyncClient, session_id: str) -> None:
    foreign = {"Authorization": "Bearer foreign"}

    response = await client.post(f"/v1/sessions/{session_id}/token", headers=foreign)

    assert response.status_code == 404


async def test_token_of_an_adopted_session_admits_to_its_room_and_dispatches_nothing(
    client: httpx.AsyncClient, persistence: Any, livekit: Any
) -> None:
    livekit.rooms["lobby"] = "RM_1"
    adopted = SessionAdopted(room="lobby", room_sid="RM_1", agent_name="my-agent")
    await persistence.commit(SESSION, adopted)

    given = (await client.post(f"/v1/sessions/{SESSION}/token", json={"identity": "ada"})).json()

    claims = _claims(given["token"])
    assert given["room"] == "lobby"
    assert claims.video is not None
    assert claims.video.room == "lobby"
    assert claims.room_config is None or not claims.room_config.agents  # the agent came by itself


@pytest.mark.parametrize("rooms", [{"lobby": "RM_2"}, {}])
async def test_an_adopted_room_that_has_ended_responds_409(
    rooms: dict[str, str], client: httpx.AsyncClient, persistence: Any, livekit: Any
) -> None:
    livekit.rooms.update(rooms)
    await persistence.commit(SESSION, SessionAdopted(room="lobby", room_sid="RM_1"))

    response = await client.post(f"/v1/sessions/{SESSION}/token")

    assert response.status_code == 409
    assert response.json()["type"].endswith("/room-ended")


@pytest.mark.parametrize(("status", "responds"), [(503, 503), (401, 502)])
async def test_livekit_that_does_not_tell_whether_the_room_has_ended_gives_no_token(
    status: int, responds: int, client: httpx.AsyncClient, persistence: Any, livekit: Any
) -> None:
    livekit.status = status  # a real LiveKit cannot fail on demand
    await persistence.commit(SESSION, SessionAdopted(room="lobby", room_sid="RM_1"))

    response = await client.post(f"/v1/sessions/{SESSION}/token")

    assert response.status_code == responds


def _signed_claims(**changes: object) -> api.access_token.Claims:
    arguments = {
        "room": SESSION,
        "agent_name": "antiphon",
        "identity": "caller",
        "ttl_seconds": 600,
        **changes,
    }
    tokens = JoinTokens(LiveKitKeys(API_KEY, API_SECRET), deployment="testonly")
    token = tokens.sign(SESSION, "default", **arguments)  # type: ignore[arg-type]
    return api.TokenVerifier(API_KEY, API_SECRET).verify(token)


def test_token_admits_one_participant_to_one_room() -> None:
    claims = _signed_claims(name="Ada")

    assert (claims.identity, claims.name) == ("caller", "Ada")
    assert claims.video is not None
    assert (claims.video.room_join, claims.video.room) == (True, SESSION)
    assert claims.video.can_publish
    assert claims.video.can_subscribe
    assert not claims.video.room_admin
    assert not claims.video.room_create
    assert not claims.video.hidden


def test_token_lets_nobody_forge_what_others_see() -> None:
    video = _signed_claims().video

    assert video is not None
    assert video.can_publish_data is False  # unset would be allowed
    assert video.can_update_own_metadata is False


async def test_token_may_publish_data_only_when_asked_for(client: httpx.AsyncClient, session_id: str) -> None:
    def permissions(token: str) -> bool | None:
        video = _claims(token).video
        return None if video is None else video.can_publish_data

    path = f"/v1/sessions/{session_id}/token"
    silent = (await client.post(path)).json()
    chatting = (await client.post(path, json={"can_publish_data": True})).json()
    body = {"flow_id": "booking", "user_id": "ada", "can_publish_data": True}
    created = (await client.post("/v1/sessions", json=body)).json()

    assert permissions(silent["token"]) is False
    assert permissions(chatting["token"]) is True
    assert permissions(created["token"]) is True


async def test_token_admits_for_ten_minutes_or_as_long_as_the_agent_waits(client: httpx.AsyncClient) -> None:
    lifetimes = []
    for ttl_seconds in (None, 30, 3600):
        body = {"flow_id": "booking", "user_id": "ada", "ttl_seconds": ttl_seconds}
        token = (await client.post("/v1/sessions", json=body)).json()["token"]
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        lifetimes.append(claims["exp"] - claims["nbf"] - 5)

    assert lifetimes == [600, 600, 3600]


def test_token_repeats_the_dispatch_of_the_room() -> None:
    config = _signed_claims().room_config

    assert config is not None
    [dispatch] = config.agents
    assert dispatch.agent_name == "antiphon"
    expected = {"session_id": SESSION, "tenant": "default", "deployment": "testonly"}
    assert json.loads(dispatch.metadata) == json.loads(config.metadata) == expected


def test_token_expires() -> None:
    token = JoinTokens(LiveKitKeys(API_KEY, API_SECRET), deployment="testonly", now=lambda: 1_000_000).sign(
        SESSION, "default", room=SESSION, agent_name="antiphon", identity="caller", ttl_seconds=60
    )

    with pytest.raises(Exception, match="expired"):
        api.TokenVerifier(API_KEY, API_SECRET, leeway=timedelta(0)).verify(token)


@pytest.fixture
async def watcher(put_key: Any, until: Any, client: httpx.AsyncClient) -> dict[str, str]:
    """The headers of a key that may watch, and no more."""
    await put_key("watcher", scopes=("supervise",))
    headers = {"Authorization": "Bearer watcher"}

    async def is_known() -> bool:
        return (await client.get("/v1/flows", headers=headers)).status_code == 403

    await until(is_known)
    return headers


async def test_the_scope_supervise_is_for_roles_only(
    client: httpx.AsyncClient, session_id: str, watcher: dict[str, str]
) -> None:
    path = f"/v1/sessions/{session_id}/token"
    as_caller = await client.post(path, headers=watcher)
    as_writer = await client.post(path, json={"role": "monitor"})

    reading = await client.post(path, json={"role": "monitor"}, headers={"Authorization": "Bearer reader"})

    assert (as_caller.status_code, as_caller.json()["scope"]) == (403, "sessions:write")
    assert (as_writer.status_code, as_writer.json()["scope"]) == (403, "supervise")
    assert reading.json()["detail"] == "The API key 'reader' lacks the scope sessions:write or supervise."


async def test_a_supervisor_is_hidden_listens_only_and_is_on_record(
    client: httpx.AsyncClient, session_id: str, bus: Bus, watcher: dict[str, str]
) -> None:
    body = {"role": "supervisor"}
    given = (await client.post(f"/v1/sessions/{session_id}/token", json=body, headers=watcher)).json()

    claims = _claims(given["token"])
    assert claims.identity == given["identity"]
    assert is_supervisor_identity(given["identity"])
    assert json.loads(claims.metadata) == {"role": "supervisor"}
    assert claims.video is not None
    assert claims.video.hidden
    assert claims.video.can_subscribe
    assert not claims.video.can_publish
    assert not claims.video.can_publish_data
    assert not claims.video.can_update_own_metadata
    subject = event_subject("default", session_id, Family.COMMAND)
    [command] = [open_event(decode(stored.payload)) async for stored in bus.read(subject)]
    assert admitted(command) == (given["identity"], "supervisor")


async def test_who_may_barge_can_speak_and_is_seen(
    client: httpx.AsyncClient, session_id: str, watcher: dict[str, str]
) -> None:
    body = {"role": "admin", "barge": True}

    given = (await client.post(f"/v1/sessions/{session_id}/token", json=body, headers=watcher)).json()

    video = _claims(given["token"]).video
    assert video is not None
    assert (video.can_publish, video.hidden, video.can_publish_data) == (True, False, False)


@pytest.mark.parametrize(
    "body",
    [
        {"role": "owner"},
        {"role": "monitor", "barge": True},
        {"barge": True},
        {"role": "supervisor", "identity": "me"},
        {"role": "supervisor", "can_publish_data": True},
        {"identity": "supervisor:0123456789abcdef"},
    ],
    ids=str,
)
async def test_a_role_that_cannot_be_is_refused(body: dict[str, Any], rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post(f"/v1/sessions/{UNKNOWN}/token", json=body)

    assert response.status_code == 422
