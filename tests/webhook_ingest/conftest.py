"""Webhooks as LiveKit sends them: protobuf JSON, signed by a token over the SHA-256 of the body."""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToJson, ParseDict
from livekit import api
from livekit.protocol.webhook import WebhookEvent
from tests.fixtures.clock import FixedClock

from antiphon.chassis.bus import Bus
from antiphon.chassis.health import Health
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.webhook_ingest.app import create_app
from antiphon.webhook_ingest.publisher import WebhookPublisher
from antiphon.webhook_ingest.settings import BODY_LIMIT_BYTES, RETRY_AFTER_SECONDS

API_KEY = "devkey"
API_SECRET = "a-secret-of-at-least-32-characters!!"
SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"
DEPLOYMENT = "testonly"


@pytest.fixture
def session_id() -> str:
    """The session that the webhooks belong to."""
    return SESSION


@pytest.fixture
def webhook() -> Callable[..., bytes]:
    """A function that returns a webhook as protobuf JSON."""

    def write(event: str = "room_started", **fields: Any) -> bytes:
        metadata = f'{{"session_id":"{SESSION}","tenant":"default"}}'
        fields.setdefault("id", "EV_9dKqLmZx2T")
        fields.setdefault("createdAt", "1795253401")
        fields.setdefault("room", {"sid": "RM_1", "name": SESSION, "metadata": metadata})
        return MessageToJson(ParseDict({"event": event, **fields}, WebhookEvent())).encode()

    return write


@pytest.fixture
def sign() -> Callable[..., str]:
    """A function that signs a body as LiveKit does."""

    def write(
        body: bytes, *, key: str = API_KEY, secret: str = API_SECRET, ttl: timedelta = timedelta(minutes=5)
    ) -> str:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return api.AccessToken(key, secret).with_sha256(digest).with_ttl(ttl).to_jwt()

    return write


@pytest.fixture
def verified_with() -> dict[str, str]:
    """The API key and secret of webhook-ingest."""
    return {"api_key": API_KEY, "api_secret": API_SECRET}


@pytest.fixture
def clock() -> FixedClock:
    """A clock that does not advance."""
    return FixedClock()


@pytest.fixture
async def client(bus: Bus, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a webhook-ingest on a real broker."""
    publisher = WebhookPublisher(
        bus, deployment=DEPLOYMENT, keys=LiveKitKeys(API_KEY, API_SECRET), clock=clock, timeout_seconds=1.0
    )
    policy = HttpPolicy(
        body_limit_bytes=BODY_LIMIT_BYTES, deadline_seconds=5.0, retry_after_seconds=RETRY_AFTER_SECONDS
    )
    transport = httpx.ASGITransport(create_app(publisher, Health({"broker": bus.ready}), policy))
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        yield client
