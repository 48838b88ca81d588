"""The application: health, documents, and problems for whatever is not there."""

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


async def test_it_is_ready_when_the_broker_answers(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["checks"]["broker"]["ok"]


async def test_postgres_away_is_reported_and_turns_nothing_off(
    client: httpx.AsyncClient, running: Any, monkeypatch: Any
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setitem(running.dependencies.health._reported._checks, "postgres", away)

    answer = await client.get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["reported"]["postgres"] == {"ok": False, "detail": "away"}


async def test_what_is_not_there_is_a_problem(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.get("/v1/nothing")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "https://antiphon.dev/problems/not-found",
        "title": "Not found",
        "status": 404,
        "detail": "Not Found",
        "instance": "/v1/nothing",
    }


async def test_a_method_that_a_path_does_not_have_is_a_problem(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.put("/v1/sessions")

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"]


async def test_the_openapi_document_has_every_route_with_its_problems(rejecting: httpx.AsyncClient) -> None:
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


async def test_every_reference_of_the_openapi_document_leads_somewhere(rejecting: httpx.AsyncClient) -> None:
    document = await _document(rejecting)

    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert referred <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in referred


async def test_the_docs_need_no_network(rejecting: httpx.AsyncClient) -> None:
    page = await rejecting.get("/docs")

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert page.status_code == 200
    assert addresses
    assert all(address.startswith("/") for address in addresses)
    assert "//cdn" not in page.text
    for address in addresses:
        assert (await rejecting.get(address)).status_code == 200
