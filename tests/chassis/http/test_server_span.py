"""A request is a span by the conventions of HTTP servers, in its client's trace, and not personal."""

from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.doubles.finished_spans import keep_spans

from antiphon.chassis import tracing
from antiphon.chassis.http import middleware
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.middleware import RequestMiddleware
from antiphon.chassis.span_export import FirstOfASecond

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    return keep_spans(monkeypatch, middleware)


async def answer(request: Request) -> Response:
    if request.path_params["session_id"] == "broken":
        raise ValueError("canary")
    return PlainTextResponse(str(tracing.current_traceparent()))


def to_response(_: Request, error: Exception) -> Response:
    return Response(status_code=500 if isinstance(error, ValueError) else 404)


async def ask(method: str, path: str) -> str:
    app = Starlette(routes=[Route("/v1/{session_id}", answer), Route("/health/live", answer)])
    app.add_middleware(
        RequestMiddleware, policy=HttpPolicy(1024), routes=app.router.routes, to_response=to_response
    )
    transport: Any = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"traceparent": PARENT, "user-agent": "canary"}
        return (await client.request(method, path, headers=headers)).text


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_a_span_in_the_trace_of_its_client(spans: InMemorySpanExporter) -> None:
    await ask("GET", "/v1/s-1?user_id=canary")

    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("GET /v1/{session_id}", trace.SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    attributes = attributes_of(span)
    assert attributes.pop("antiphon.request_id")
    assert attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/{session_id}",
        "network.protocol.version": "1.1",
        "server.address": "test",
        "server.port": 0,
        "session.id": "s-1",
        "url.path": "/v1/s-1",
        "url.scheme": "http",
    }
    assert span.status.status_code is trace.StatusCode.UNSET
    assert "canary" not in span.to_json()


async def test_an_internal_error_is_a_failed_span_without_its_message(spans: InMemorySpanExporter) -> None:
    await ask("GET", "/v1/broken")

    (span,) = spans.get_finished_spans()
    assert attributes_of(span)["error.type"] == "500"
    assert span.status.status_code is trace.StatusCode.ERROR
    assert "canary" not in span.to_json()


async def test_names_of_spans_are_bounded(spans: InMemorySpanExporter) -> None:
    await ask("BREW", "/coffee/pot")
    await ask("HEAD", "/v1/s-1")
    await ask("GET", "/health/live")

    assert [span.name for span in spans.get_finished_spans()] == ["HTTP", "HEAD /v1/{session_id}"]
    unknown, _ = (attributes_of(span) for span in spans.get_finished_spans())
    assert unknown["http.request.method"] == "_OTHER"


async def test_clients_record_a_bounded_number_of_their_traces(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.chassis.span_export.time.monotonic", lambda: 100.0)
    monkeypatch.setattr(tracing, "goes_on_here", FirstOfASecond(2).takes)

    parents = [await ask("GET", "/v1/s-1") for _ in range(9)]

    assert len(spans.get_finished_spans()) == 2
    assert {parent.split("-")[1] for parent in parents} == {PARENT.split("-")[1]}  # also in logs and events
    assert [parent.split("-")[3] for parent in parents] == ["01"] * 2 + ["00"] * 7
    assert len({parent.split("-")[2] for parent in parents}) == 9
