"""The middleware: body limit, one log line per request, trace context."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import decode
from antiphon.contracts.subjects import session_filter
from antiphon.session_api.settings import BODY_LIMIT_BYTES

CREATE = {"flow_id": "booking", "user_id": "ada"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024 + 1):
        yield b" " * 1024


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_over_the_limit_responds_413(chunked: bool, client: httpx.AsyncClient) -> None:
    content: Any = _chunks(BODY_LIMIT_BYTES) if chunked else b" " * (BODY_LIMIT_BYTES + 1)

    response = await client.post(
        "/v1/sessions", content=content, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"].endswith("/content-too-large")


async def test_internal_error_hides_its_message(
    client: httpx.AsyncClient, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(type(running.dependencies.flows), "latest", fail)

    response = await client.get("/v1/flows")

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


async def test_request_is_logged_with_ids_and_without_content(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.configure(cache_logger_on_first_use=False)
    # another one than that which an earlier test may have cached
    monkeypatch.setattr("antiphon.chassis.http.middleware.log", structlog.get_logger())
    with capture_logs() as lines:
        created = await client.post("/v1/sessions", json={**CREATE, "user_id": "ada lovelace"})

    session_id = created.json()["session_id"]
    [line] = [line for line in lines if line["event"] == "http.request"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/sessions", 201)
    assert (line["tenant"], line["session_id"]) == ("default", session_id)
    assert "lovelace" not in str(lines)


async def test_traceparent_of_the_request_is_published(client: httpx.AsyncClient, bus: Bus) -> None:
    created = await client.post("/v1/sessions", json=CREATE, headers={"traceparent": TRACE})

    subject = session_filter("default", created.json()["session_id"])
    messages = [incoming async for incoming in bus.read(subject)]
    assert [decode(message.payload).traceparent for message in messages] == [TRACE, TRACE]
    assert all(message.headers and message.headers["traceparent"] == TRACE for message in messages)
