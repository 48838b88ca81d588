"""The application: health, OpenAPI document, and problems for unknown paths."""

import re
from typing import Any

import httpx

from antiphon.chassis.database import DatabaseUnavailable

ROUTES = {
    ("/v1/sessions", "get"),
    ("/v1/sessions", "post"),
    ("/v1/sessions/{session_id}", "get"),
    ("/v1/sessions/{session_id}", "delete"),
    ("/v1/sessions/{session_id}/turns", "get"),
    ("/v1/sessions/{session_id}/events", "get"),
    ("/v1/sessions/{session_id}/token", "post"),
    ("/v1/flows", "get"),
}


async def _document(client: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    return document


async def test_ready_when_the_broker_answers(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get("/health/ready")

    assert response.status_code == 200
    checks = response.json()["checks"]
    assert checks["broker"]["ok"]
    assert checks["publish"]["ok"]


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


async def test_openapi_document_has_every_route_with_its_problems(rejecting: httpx.AsyncClient) -> None:
    document = await _document(rejecting)

    operations = {(path, verb): o for path, verbs in document["paths"].items() for verb, o in verbs.items()}
    assert document["openapi"].startswith("3.1")
    assert set(operations) == ROUTES
    for operation in operations.values():
        assert {"401", "403"} <= set(operation["responses"])
        assert "application/problem+json" in operation["responses"]["401"]["content"]
        success = next(status for status in operation["responses"] if status.startswith("2"))
        assert operation["responses"][success]["content"]["application/json"]
    assert document["security"] == [{"ApiKey": []}]


async def test_every_reference_of_the_openapi_document_resolves(rejecting: httpx.AsyncClient) -> None:
    document = await _document(rejecting)

    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert referred <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in referred


async def test_docs_need_no_network(rejecting: httpx.AsyncClient) -> None:
    page = await rejecting.get("/docs")

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert page.status_code == 200
    assert addresses
    assert all(address.startswith("/") for address in addresses)
    assert "//cdn" not in page.text
    for address in addresses:
        assert (await rejecting.get(address)).status_code == 200
