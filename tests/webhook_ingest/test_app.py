"""POST /api/v1/webhooks/livekit, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from tests.fixtures.clock import FixedClock

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.rooms import AdoptedRoom, encode_room
from antiphon.contracts.subjects import ALL_EVENTS
from antiphon.webhook_ingest import rooms
from antiphon.webhook_ingest.app import PATH
from antiphon.webhook_ingest.settings import BODY_LIMIT_BYTES

ADOPTED = named_session_id("acme", "adopted")

Webhook = Callable[..., bytes]
Sign = Callable[..., str]


async def _log(bus: Bus) -> list[Envelope]:
    return [decode(incoming.payload) async for incoming in bus.read(ALL_EVENTS)]


async def _post(client: httpx.AsyncClient, body: bytes, token: str) -> httpx.Response:
    headers = {"Authorization": token, "Content-Type": "application/webhook+json"}
    return await client.post(PATH, content=body, headers=headers)


async def test_webhook_is_published_as_an_event_of_its_session(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, session_id: str
) -> None:
    body = webhook("participant_joined", participant={"sid": "PA_1", "identity": "caller"})

    response = await _post(client, body, sign(body))

    [envelope] = await _log(bus)
    assert (response.status_code, response.json()) == (200, {"outcome": "published"})
    assert (envelope.id, envelope.type) == ("lk:EV_9dKqLmZx2T", "livekit.participant_joined")
    assert (envelope.subject, envelope.tenant) == (session_id, "default")
    assert envelope.time == datetime.fromtimestamp(1795253401, UTC)
    assert getattr(open_event(envelope), "participant_identity") == "caller"  # noqa: B009 - of the one event


async def test_redelivered_webhook_is_one_event(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign
) -> None:
    body = webhook()

    responses = [await _post(client, body, sign(body)) for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 200]
    assert len(await _log(bus)) == 1


async def test_webhook_of_a_track_is_published_to_its_session(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, session_id: str
) -> None:
    started = webhook()
    track = webhook("track_published", id="EV_2", room={"sid": "RM_1", "name": session_id})
    await _post(client, started, sign(started))

    response = await _post(client, track, sign(track))

    assert response.json() == {"outcome": "published"}
    assert [envelope.type for envelope in await _log(bus)] == [
        "livekit.room_started",
        "livekit.track_published",
    ]


async def test_webhook_of_an_unknown_room_is_not_published(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign
) -> None:
    body = webhook("participant_joined", room={"sid": "RM_9", "name": "foreign-room"})

    response = await _post(client, body, sign(body))

    assert (response.status_code, response.json()) == (200, {"outcome": "not_ours"})
    assert await _log(bus) == []


async def test_rooms_of_another_deployment_are_ignored_at_once(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, clock: FixedClock, session_id: str
) -> None:
    created_at = str(int(clock().timestamp()))
    metadata = f'{{"session_id":"{session_id}","tenant":"default","deployment":"01234567"}}'
    logs: list[Any] = []
    for name in (session_id, "lobby"):
        room = {"sid": "RM_9", "name": name, "metadata": metadata}
        body = webhook(room=room, createdAt=created_at)

        with capture_logs() as captured:
            response = await _post(client, body, sign(body))

        logs += captured
        assert (response.status_code, response.json()) == (200, {"outcome": "not_ours"})
    assert await _log(bus) == []
    [entry] = [entry for entry in logs if entry["event"] == "webhook.of_another_deployment"]
    assert entry["deployment"] == "01234567"


async def test_start_of_an_unknown_room_is_sent_again_until_the_room_is_adopted(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, clock: FixedClock
) -> None:
    created_at = str(int(clock().timestamp()))
    body = webhook(room={"sid": "RM_9", "name": "lobby"}, createdAt=created_at)

    early = await _post(client, body, sign(body))
    await (await bus.bucket("rooms")).put("RM_9", encode_room(AdoptedRoom(ADOPTED, "acme")))
    adopted = await _post(client, body, sign(body))

    assert early.status_code == 503
    assert early.json()["type"].endswith("/room-not-yet-adopted")
    assert "retry-after" not in early.headers
    assert adopted.json() == {"outcome": "published"}
    [envelope] = await _log(bus)
    assert (envelope.type, envelope.subject, envelope.tenant) == ("livekit.room_started", ADOPTED, "acme")


@pytest.mark.parametrize("event", ["egress_started", "egress_updated", "egress_ended"])
async def test_egress_of_an_unknown_room_is_sent_again_until_the_room_is_adopted(
    event: str, client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, clock: FixedClock
) -> None:
    egress = {"egressId": "EG_1", "roomId": "RM_9", "roomName": "lobby"}
    body = webhook(event, room={}, egressInfo=egress, createdAt=str(int(clock().timestamp())))

    early = await _post(client, body, sign(body))
    await (await bus.bucket("rooms")).put("RM_9", encode_room(AdoptedRoom(ADOPTED, "acme")))
    adopted = await _post(client, body, sign(body))

    assert early.status_code == 503
    assert adopted.json() == {"outcome": "published"}
    assert [(envelope.subject, envelope.type) for envelope in await _log(bus)] == [
        (ADOPTED, f"livekit.{event}")
    ]


@pytest.mark.parametrize(
    ("sid", "age_seconds", "status"), [("RM_9", 0, 503), ("RM_9", 12, 200), ("", 0, 200)]
)
async def test_ingress_waits_only_for_a_room(
    sid: str,
    age_seconds: int,
    status: int,
    client: httpx.AsyncClient,
    webhook: Webhook,
    sign: Sign,
    clock: FixedClock,
) -> None:
    created_at = str(int(clock().timestamp()) - age_seconds)
    ingress = {"ingressId": "IN_1", "roomName": "lobby", "state": {"roomId": sid}}
    body = webhook("ingress_started", room={}, ingressInfo=ingress, createdAt=created_at)

    response = await _post(client, body, sign(body))

    assert response.status_code == status


@pytest.mark.parametrize("age_seconds", [12, 15, 3600, -3600])
async def test_start_of_a_room_that_nobody_adopts_is_not_published(
    age_seconds: int, client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign, clock: FixedClock
) -> None:
    created_at = str(int(clock().timestamp()) - age_seconds)
    body = webhook(room={"sid": "RM_9", "name": "lobby"}, createdAt=created_at)

    response = await _post(client, body, sign(body))

    assert (response.status_code, response.json()) == (200, {"outcome": "not_ours"})
    assert await _log(bus) == []


async def test_forged_webhook_responds_401(
    client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign
) -> None:
    body = webhook()
    forged = sign(body, secret="another-secret-of-at-least-32-characters")

    responses = [
        await _post(client, body, forged),
        await _post(client, body, ""),
        await _post(client, body, sign(body, ttl=timedelta(minutes=-5))),
        await _post(client, body + b" ", sign(body)),
    ]

    assert [response.status_code for response in responses] == [401] * 4
    assert responses[0].headers["content-type"] == "application/problem+json"
    assert await _log(bus) == []


async def test_malformed_webhook_responds_400(client: httpx.AsyncClient, sign: Sign) -> None:
    body = b'{"event":"room_started"}'

    response = await _post(client, body, sign(body))

    assert response.status_code == 400
    assert response.json()["type"].endswith("/malformed-webhook")


@pytest.mark.parametrize(
    "nested",
    [
        b'{"id":"EV_1","event":"room_started","room":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
        b'{"id":"EV_1","event":"room_started","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"id":"EV_1","event":"room_started","room":' + b'{"room":' * 900 + b"{}" + b"}" * 901,
        b'{"id":"EV_1","event":"room_started","x":' + b"[" * 95 + b"]" * 95 + b"}",
    ],
    ids=["objects", "lists", "rooms", "just too deep for the log"],
)
async def test_a_webhook_that_is_nested_deep_responds_400(
    nested: bytes, client: httpx.AsyncClient, sign: Sign
) -> None:
    response = await _post(client, nested, sign(nested))

    assert response.status_code == 400
    assert response.json()["type"].endswith("/malformed-webhook")


@pytest.mark.parametrize("webhook_id", ["E" * 257, "E" * 201, "a\0b", "a\nb", "a b", "é"])
async def test_a_webhook_with_an_invalid_id_responds_400(
    webhook_id: str, client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign
) -> None:
    body = webhook(id=webhook_id)

    response = await _post(client, body, sign(body))

    assert response.status_code == 400
    assert response.json()["type"].endswith("/malformed-webhook")
    assert await _log(bus) == []


async def test_the_body_of_an_unsigned_webhook_is_not_read(client: httpx.AsyncClient, sign: Sign) -> None:
    read: list[bytes] = []

    async def chunks() -> AsyncIterator[bytes]:
        read.append(b"{}")
        yield read[-1]

    for token in ("", "nonsense", sign(b"{}", ttl=timedelta(minutes=-5)), sign(b"{}", key="otherkey")):
        response = await client.post(PATH, content=chunks(), headers={"Authorization": token})

        assert (response.status_code, read) == (401, [])


async def test_responses_have_the_request_id_and_security_headers(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-Id": "hook-17"}
    response = await client.post(PATH, content=b"{}", headers=headers)

    assert response.status_code == 401
    assert response.headers["x-request-id"] == response.json()["request_id"] == "hook-17"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_over_the_limit_responds_413(chunked: bool, client: httpx.AsyncClient, sign: Sign) -> None:
    body = b" " * (BODY_LIMIT_BYTES + 1)

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    response = await client.post(
        PATH, content=chunks() if chunked else body, headers={"Authorization": sign(body)}
    )

    assert response.status_code == 413


async def test_broker_outage_responds_503(
    client: httpx.AsyncClient, nats_server: NatsServer, webhook: Webhook, sign: Sign
) -> None:
    body = webhook()
    nats_server.stop()

    response = await _post(client, body, sign(body))

    assert response.status_code == 503
    assert response.headers["retry-after"] == "10"


async def test_internal_error_responds_503(
    client: httpx.AsyncClient, webhook: Webhook, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rooms.RoomSessions, "of_room", fail)
    body = webhook()

    response = await _post(client, body, sign(body))

    assert response.status_code == 503


async def test_get_responds_405(client: httpx.AsyncClient) -> None:
    response = await client.get(PATH)

    assert response.status_code == 405
    assert response.headers["allow"] == "OPTIONS, POST"
    assert response.headers["content-type"] == "application/problem+json"


async def test_ready_when_the_broker_answers(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    assert (response.status_code, response.json()["checks"]["broker"]["ok"]) == (200, True)


async def test_a_sealed_stream_fails_every_webhook(
    bus: Bus, client: httpx.AsyncClient, webhook: Webhook, sign: Sign
) -> None:
    info = await bus.connection.api("STREAM.INFO.SESSIONS")
    await bus.connection.api("STREAM.UPDATE.SESSIONS", info["config"] | {"sealed": True})
    bodies = [webhook(id=f"EV_{number}") for number in range(20)]

    async with asyncio.timeout(60):
        responses = await asyncio.gather(*(_post(client, body, sign(body)) for body in bodies))

    assert {response.status_code for response in responses} == {503}


async def test_a_webhook_that_takes_too_long_is_sent_again(
    client: httpx.AsyncClient, webhook: Webhook, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(600)

    monkeypatch.setattr(rooms.RoomSessions, "of_room", hang)
    body = webhook()

    response = await _post(client, body, sign(body))

    assert response.status_code == 503
    assert response.json()["type"].endswith("/deadline-exceeded")
    assert response.headers["retry-after"] == "10"


@pytest.mark.parametrize("event_id", ["a\0b", "x" * 300])
async def test_an_id_that_the_log_cannot_hold_responds_400(
    event_id: str, client: httpx.AsyncClient, bus: Bus, webhook: Webhook, sign: Sign
) -> None:
    body = webhook(id=event_id)

    response = await _post(client, body, sign(body))

    assert response.status_code == 400
    assert response.json()["type"].endswith("/malformed-webhook")
    assert await _log(bus) == []
