"""What browsers, caches and proxies see of the API."""

from typing import Any

import httpx
import pytest

CREATE = {"flow_id": "booking", "user_id": "ada"}
CONSOLE = "https://console.example.com"
FORGED = {"Host": "evil.example.com"}


@pytest.mark.parametrize(
    "path", ["/v1/sessions", "/v1/flows", "/docs", "/openapi.json", "/health/live", "/health/ready"]
)
async def test_head_is_get_without_its_body(path: str, rejecting: httpx.AsyncClient) -> None:
    got, headed = await rejecting.get(path), await rejecting.head(path)

    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


async def test_options_and_405_name_the_methods_of_every_route(rejecting: httpx.AsyncClient) -> None:
    paths = (await rejecting.get("/openapi.json")).json()["paths"]

    for path, operations in paths.items():
        concrete = path.replace("{session_id}", "ses_00000000000000000000000000")
        options = await rejecting.options(concrete, headers={"Authorization": ""})
        refused = await rejecting.request("TRACE", concrete)

        expected = {method.upper() for method in operations} | {"OPTIONS"}
        expected |= {"HEAD"} if "get" in operations else set()
        assert options.status_code == 204
        assert set(options.headers["allow"].split(", ")) == expected
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == expected


@pytest.mark.parametrize("path", ["/v1/sessions/", "/v1/flows/", "/docs/", "/health/live/", "//v1/sessions"])
async def test_no_path_redirects_to_the_host_of_the_request(path: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get(path, headers=FORGED)

    assert response.status_code == 404
    assert "evil" not in str(response.headers) + response.text


async def test_a_forged_host_is_not_in_the_answer(client: httpx.AsyncClient) -> None:
    created = await client.post("/v1/sessions", json=CREATE, headers=FORGED)

    session_id = created.json()["session_id"]
    assert created.json()["events_url"] == f"/v1/sessions/{session_id}/events"
    assert "evil" not in str(created.headers) + created.text


async def test_urls_start_with_the_public_url(start: Any) -> None:
    running = await start(public_url="https://api.example.com/antiphon/")
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        created = await client.post("/v1/sessions", json=CREATE, headers={"Authorization": "Bearer writer"})

    base = "https://api.example.com/antiphon/v1/sessions/"
    assert created.json()["events_url"] == f"{base}{created.json()['session_id']}/events"


async def test_tokens_are_stored_nowhere(client: httpx.AsyncClient, session_id: str) -> None:
    created = await client.post("/v1/sessions", json=CREATE)
    token = await client.post(f"/v1/sessions/{session_id}/token", json={})
    read = await client.get(f"/v1/sessions/{session_id}")

    assert created.headers["cache-control"] == token.headers["cache-control"] == "no-store"
    assert read.headers["cache-control"] == "private, no-cache"


async def test_an_unchanged_session_responds_304(client: httpx.AsyncClient, session_id: str) -> None:
    for path in (f"/v1/sessions/{session_id}", f"/v1/sessions/{session_id}/events"):
        first = await client.get(path)
        second = await client.get(path, headers={"If-None-Match": first.headers["etag"]})

        assert (first.status_code, second.status_code) == (200, 304)
        assert second.content == b""


async def test_an_ended_session_has_another_etag(client: httpx.AsyncClient, session_id: str) -> None:
    before = await client.get(f"/v1/sessions/{session_id}")
    await client.post(f"/v1/sessions/{session_id}/end")

    after = await client.get(f"/v1/sessions/{session_id}", headers={"If-None-Match": before.headers["etag"]})

    assert after.status_code == 200


async def test_the_console_may_call_when_its_origin_is_set(start: Any) -> None:
    running = await start(cors_origins=f"{CONSOLE}, http://localhost:3000")
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        preflight = await client.options(
            "/v1/sessions",
            headers={
                "Origin": CONSOLE,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
            },
        )
        created = await client.post(
            "/v1/sessions", json=CREATE, headers={"Origin": CONSOLE, "Authorization": "Bearer writer"}
        )
        refused = await client.get("/v1/sessions", headers={"Origin": CONSOLE})

    assert preflight.status_code == 204
    assert (created.status_code, refused.status_code) == (201, 401)
    for answer in (preflight, created, refused):
        assert answer.headers["access-control-allow-origin"] == CONSOLE
    assert "location" in created.headers["access-control-expose-headers"].lower()


async def test_the_openapi_document_is_compressed(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/openapi.json", headers={"Accept-Encoding": "gzip"})

    assert response.headers["content-encoding"] == "gzip"
    assert response.json()["openapi"].startswith("3.1")
