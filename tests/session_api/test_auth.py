"""Who may do what: 401 without a key that counts, 403 without the scope, at once after a revocation."""

import hashlib
from collections.abc import Awaitable, Callable

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.session_api.auth import Keys

CREATE = {"flow_id": "booking", "user_id": "ada"}


@pytest.mark.parametrize("authorization", [None, "", "Basic d3JpdGVyOg==", "Bearer", "writer"])
async def test_without_a_bearer_key_nobody_comes_in(
    authorization: str | None, rejecting: httpx.AsyncClient
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    del rejecting.headers["Authorization"]

    answer = await rejecting.get("/v1/sessions", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["type"].endswith("/missing-credentials")


async def test_a_key_that_nobody_issued_does_not_count(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.get("/v1/sessions", headers={"Authorization": "Bearer nobody"})

    assert answer.status_code == 401
    assert answer.json()["type"].endswith("/invalid-credentials")


async def test_a_reader_may_read_and_not_write(client: httpx.AsyncClient) -> None:
    reader = {"Authorization": "Bearer reader"}

    listed = await client.get("/v1/sessions", headers=reader)
    made = await client.post("/v1/sessions", json=CREATE, headers=reader)

    assert listed.status_code == 200
    assert made.status_code == 403
    assert made.json()["type"].endswith("/missing-scope")
    assert made.json()["scope"] == "sessions:write"


async def test_the_body_is_not_judged_before_the_key(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", json={}, headers={"Authorization": "Bearer nobody"})

    assert answer.status_code == 401


async def test_a_revoked_key_stops_to_count(
    client: httpx.AsyncClient,
    bus: Bus,
    put_key: Callable[..., Awaitable[str]],
    until: Callable[..., Awaitable[None]],
) -> None:
    digest = await put_key("leaver")
    leaver = {"Authorization": "Bearer leaver"}

    async def answers(status: int) -> bool:
        return (await client.get("/v1/sessions", headers=leaver)).status_code == status

    await until(lambda: answers(200))
    await (await bus.bucket("keys")).delete(digest)

    await until(lambda: answers(401))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_a_key_is_found_by_its_hash() -> None:
    record = b'{"tenant":"acme","name":"ci","scopes":["sessions:read"],"created_at":"2026-01-01T00:00:00Z"}'
    key = Keys({_hash("secret"): record}).find("secret")

    assert key is not None
    assert (key.tenant, key.actor, key.scopes) == ("acme", "key:ci", frozenset({"sessions:read"}))


def test_the_hash_itself_opens_nothing() -> None:
    record = b'{"tenant":"acme","name":"ci","scopes":[]}'

    assert Keys({_hash("secret"): record}).find(_hash("secret")) is None


def test_a_record_that_cannot_be_read_opens_nothing() -> None:
    assert Keys({_hash("secret"): b"not json"}).find("secret") is None
