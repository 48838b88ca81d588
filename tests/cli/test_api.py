import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from antiphon.cli import api as module
from antiphon.cli.api import ApiFailed, SessionApi

Handler = Callable[[httpx.Request], httpx.Response]


def _event(sequence: int, kind: str = "turn.saved") -> dict[str, Any]:
    return {"sequence": sequence, "type": kind}


def _stream(*events: dict[str, Any], breaks: bool = False) -> httpx.Response:
    async def lines() -> AsyncIterator[bytes]:
        yield b": heartbeat\n\n"
        for event in events:
            data = json.dumps(event)
            yield f"id: {event['sequence']}\nevent: {event['type']}\ndata: {data}\n\n".encode()
        if breaks:
            raise httpx.RemoteProtocolError("connection closed")

    return httpx.Response(200, content=lines(), headers={"Content-Type": "text/event-stream"})


@pytest.fixture
def api_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], SessionApi]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)

    def make(handle: Handler) -> SessionApi:
        api = SessionApi("http://api", "a-key")
        api._http = httpx.AsyncClient(
            base_url="http://api", headers=api._http.headers, transport=httpx.MockTransport(handle)
        )
        return api

    return make


async def test_broken_stream_resumes_after_the_last_event(
    api_with: Callable[[Handler], SessionApi],
) -> None:
    resumed = []

    def handle(request: httpx.Request) -> httpx.Response:
        resumed.append(request.headers["last-event-id"])
        if len(resumed) == 1:
            return _stream(_event(1), _event(2), breaks=True)
        return _stream(_event(3), _event(4, "session.closed"))

    async with api_with(handle) as api:
        seen = [event["sequence"] async for event in api.follow("ses_1")]

    assert seen == [1, 2, 3, 4]
    assert resumed == ["0", "2"]


async def test_stream_that_ends_before_the_session_resumes(
    api_with: Callable[[Handler], SessionApi],
) -> None:
    responses = iter([_stream(_event(1)), _stream(_event(2, "session.failed"))])

    async with api_with(lambda _: next(responses)) as api:
        assert [event["sequence"] async for event in api.follow("ses_1")] == [1, 2]


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_any_text_of_an_event_is_read(
    size: int, end: str, api_with: Callable[[Handler], SessionApi]
) -> None:
    text = "one\u2028two\u2029three\u0085four\x1c\x0bfive"
    event = json.dumps({**_event(1, "session.closed"), "text": text}, ensure_ascii=False)
    raw = f": heartbeat\n\nid: 1\ndata: {event}\n\n".replace("\n", end).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    response = httpx.Response(200, content=chunks(), headers={"Content-Type": "text/event-stream"})
    async with api_with(lambda _: response) as api:
        assert [seen["text"] async for seen in api.follow("ses_1")] == [text]


async def test_unreachable_server_raises(api_with: Callable[[Handler], SessionApi]) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with api_with(handle) as api:
        with pytest.raises(ApiFailed, match="does not respond: refused"):
            await anext(api.follow("ses_1"))


async def test_all_pages_are_read(api_with: Callable[[Handler], SessionApi]) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        after = len(request.url.params.get("cursor", ""))
        return httpx.Response(
            200, json={"events": [_event(after + 1)], "next": None if after == 2 else "x" * (after + 1)}
        )

    async with api_with(handle) as api:
        assert [event["sequence"] async for event in api.events("ses_1")] == [1, 2, 3]


async def test_problem_document_becomes_one_line(api_with: Callable[[Handler], SessionApi]) -> None:
    problem = {"title": "Unknown flow", "type": "about:blank", "detail": "No flow is called 'x'."}

    async with api_with(lambda _: httpx.Response(404, json=problem)) as api:
        with pytest.raises(ApiFailed, match=r"Unknown flow \(404\): No flow is called 'x'\."):
            await api.create("x", "ada")


async def test_problem_says_what_is_wrong_with_each_field(api_with: Callable[[Handler], SessionApi]) -> None:
    errors = [
        {"field": "agent_name", "in": "body", "message": "'antiphon' runs flows: pass flow_id instead"},
        {"field": "user_id", "in": "body", "message": "is missing"},
    ]
    problem = {"title": "Invalid request", "type": "about:blank", "detail": "Not valid: x.", "errors": errors}

    async with api_with(lambda _: httpx.Response(422, json=problem)) as api:
        with pytest.raises(ApiFailed) as failed:
            await api.create(None, "", agent_name="antiphon")

    assert str(failed.value) == (
        "Invalid request (422): Not valid: x. "
        "agent_name: 'antiphon' runs flows: pass flow_id instead; user_id: is missing"
    )


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'"text"', b'{"title": 1}', b'{"title": "a", "type": "b", "errors": 7}']
)
async def test_any_body_of_an_error_is_a_line(body: bytes, api_with: Callable[[Handler], SessionApi]) -> None:
    async with api_with(lambda _: httpx.Response(500, content=body)) as api:
        with pytest.raises(ApiFailed, match="HTTP 500"):
            await api.session("ses_1")


async def test_a_number_of_any_length_is_read(api_with: Callable[[Handler], SessionApi]) -> None:
    digits = "9" * 5_000
    event = f'{{"sequence": 1, "type": "session.closed", "data": {{"number": -{digits}, "small": 7}}}}'

    def handle(request: httpx.Request) -> httpx.Response:
        if request.headers.get("accept") == "text/event-stream":
            stream = {"Content-Type": "text/event-stream"}
            return httpx.Response(200, content=f"data: {event}\n\n".encode(), headers=stream)
        return httpx.Response(200, content=f'{{"events": [{event}], "next": null}}'.encode())

    async with api_with(handle) as api:
        for events in (api.events("ses_1"), api.follow("ses_1")):
            [found] = [event["data"] async for event in events]
            assert found == {"number": f"-{digits}", "small": 7}


async def test_requests_carry_the_key(api_with: Callable[[Handler], SessionApi]) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer a-key"
        return httpx.Response(200, json={"sessions": [], "next": None})

    async with api_with(handle) as api:
        assert await api.sessions(limit=1) == []


async def test_a_server_that_is_not_session_api_raises(api_with: Callable[[Handler], SessionApi]) -> None:
    async with api_with(lambda _: httpx.Response(200, html="<p>Welcome</p>")) as api:
        with pytest.raises(ApiFailed, match="is not JSON"):
            await api.sessions(limit=1)
        with pytest.raises(ApiFailed, match="is not an event stream"):
            await anext(api.follow("ses_1"))
