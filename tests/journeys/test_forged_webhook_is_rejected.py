"""Webhooks with an invalid signature are rejected and become no event."""

import asyncio
import base64
import hashlib
import json
import time

import httpx
import jwt
import pytest
from tests.journeys.json_api import SessionApi

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.supervisor.state import Addresses

PATH = "/api/v1/webhooks/livekit"


def keys_of(where: Addresses) -> tuple[str, str]:
    assert where.livekit_api_key
    assert where.livekit_api_secret
    return where.livekit_api_key, where.livekit_api_secret


def webhook(session: str, number: int) -> bytes:
    event = {
        "event": "participant_joined",
        "id": f"EV_forged{number}",
        "createdAt": str(int(time.time())),
        "room": {"sid": "RM_forged", "name": session},
        "participant": {"sid": "PA_mallory", "identity": "mallory"},
    }
    return json.dumps(event).encode()


def signature(body: bytes, key: str, secret: str, *, age_seconds: int = 0) -> str:
    now = int(time.time()) - age_seconds
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return jwt.encode({"iss": key, "nbf": now, "exp": now + 300, "sha256": digest}, secret, algorithm="HS256")


async def test_forged_webhook_is_rejected(stack: EmbeddedStack, api: SessionApi) -> None:
    where = stack.status().addresses
    key, secret = keys_of(where)
    session = (await api.create("booking", "ada"))["session_id"]
    body, other = webhook(session, 1), webhook(session, 2)
    forgeries = {
        "no signature": None,
        "no token": "nonsense",
        "wrong secret": signature(body, key, "x" * 40),
        "wrong key": signature(body, "APIforged", secret),
        "another body": signature(other, key, secret),
        "expired": signature(body, key, secret, age_seconds=7200),
    }

    async with httpx.AsyncClient(base_url=where.webhooks_url.removesuffix(PATH)) as client:
        for name, token in forgeries.items():
            headers = {} if token is None else {"Authorization": token}
            response = await client.post(PATH, content=body, headers=headers)
            assert response.status_code == 401, name
        valid = await client.post(
            PATH, content=other, headers={"Authorization": signature(other, key, secret)}
        )
    assert valid.status_code == 200

    seen = []
    async with asyncio.timeout(20):
        async for event in api.follow(session):
            seen.append(event["id"])
            if event["id"] == "lk:EV_forged2":
                break
    assert "lk:EV_forged1" not in seen


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"event": 7}'])
async def test_signed_malformed_webhook_responds_400(stack: EmbeddedStack, body: bytes) -> None:
    where = stack.status().addresses
    token = signature(body, *keys_of(where))

    async with httpx.AsyncClient(base_url=where.webhooks_url.removesuffix(PATH)) as client:
        response = await client.post(PATH, content=body, headers={"Authorization": token})

    assert response.status_code == 400
