"""The application: health, OpenAPI document, and problems for unknown paths."""

import re
from typing import Any

import httpx

from antiphon.chassis.database import DatabaseUnavailable


async def test_ready_when_the_broker_answers(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/health/ready")

    assert response.status_code == 200
    assert response.json()["checks"]["broker"]["ok"]


async def test_postgres_outage_is_reported_and_service_stays_ready(
    client: httpx.AsyncClient, running: Any, monkeypatch: Any
) -> None:
    async def unavailable(*_: object) -> None:
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setitem(running.dependencies.health._reported._checks, "postgres", unavailable)

    response = await client.get("/health/ready")

    assert response.status_code == 200
    assert response.json()["reported"]["postgres"] == {"ok": False, "detail": "connection refused"}


async def test_unknown_path_is_a_problem(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/v1/nothing")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "request_id": response.headers["x-request-id"],
        "type": "https://antiphon.dev/problems/not-found",
        "title": "Not found",
        "status": 404,
        "detail": "Not Found",
        "instance": "/v1/nothing",
    }


async def test_wrong_method_is_a_problem(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.put("/v1/sessions")

    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"]


async def test_docs_need_no_network(rejecting: httpx.AsyncClient) -> None:
    page = await rejecting.get("/docs")

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert page.status_code == 200
    assert addresses
    assert all(address.startswith("/") for address in addresses)
    assert "//cdn" not in page.text
    for address in addresses:
        assert (await rejecting.get(address)).status_code == 200
