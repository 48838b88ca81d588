"""API keys: 401 without a valid key, 403 without the scope, immediate revocation."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from antiphon.chassis.bus import Bus

CREATE = {"flow_id": "booking", "user_id": "ada"}


@pytest.mark.parametrize("authorization", [None, "", "Basic d3JpdGVyOg==", "Bearer", "writer"])
async def test_missing_bearer_key_responds_401(
    authorization: str | None, rejecting: httpx.AsyncClient
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    del rejecting.headers["Authorization"]

    response = await rejecting.get("/v1/sessions", headers=headers)

    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["type"].endswith("/missing-credentials")


async def test_unknown_key_responds_401(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/v1/sessions", headers={"Authorization": "Bearer nobody"})

    assert response.status_code == 401
    assert response.json()["type"].endswith("/invalid-credentials")


async def test_missing_scope_responds_403(client: httpx.AsyncClient) -> None:
    reader = {"Authorization": "Bearer reader"}

    listed = await client.get("/v1/sessions", headers=reader)
    created = await client.post("/v1/sessions", json=CREATE, headers=reader)

    assert listed.status_code == 200
    assert created.status_code == 403
    assert created.json()["type"].endswith("/missing-scope")
    assert created.json()["scope"] == "sessions:write"


async def test_key_is_checked_before_the_body(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", json={}, headers={"Authorization": "Bearer nobody"})

    assert response.status_code == 401


async def test_revoked_key_responds_401(
    client: httpx.AsyncClient,
    bus: Bus,
    put_key: Callable[..., Awaitable[str]],
    until: Callable[..., Awaitable[None]],
) -> None:
    digest = await put_key("leaver")
    leaver = {"Authorization": "Bearer leaver"}

    async def responds(status: int) -> bool:
        return (await client.get("/v1/sessions", headers=leaver)).status_code == status

    await until(lambda: responds(200))
    await (await bus.bucket("keys")).delete(digest)

    await until(lambda: responds(401))
