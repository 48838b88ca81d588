"""Both clients over a transport that a test plays: the sync one is run through the same tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from tests.client.events import SESSION, event, sse

from antiphon.client import (
    Antiphon,
    AsyncAntiphon,
    AuthenticationError,
    ConnectionFailed,
    InvalidClientSettings,
    NotFound,
    Timeout,
    UnreadableResponse,
    retry,
)

Handler = Callable[[httpx.Request], httpx.Response]
URL, KEY = "http://api.test/antiphon", "sk-this-is-secret"


class Client:
    """One of the two clients, with coroutines for both."""

    def __init__(self, kind: str, handle: Handler, **options: Any) -> None:
        transport = httpx.MockTransport(handle)
        self.sync = Antiphon(URL, KEY, transport=transport, **options)
        self.other = AsyncAntiphon(URL, KEY, transport=transport, **options)
        self.is_sync = kind == "sync"

    async def call(self, name: str, /, *arguments: Any, **named: Any) -> Any:
        part, _, method = name.partition(".")
        if self.is_sync:
            called = getattr(getattr(self.sync, part), method)
            return await asyncio.to_thread(called, *arguments, **named)
        return await getattr(getattr(self.other, part), method)(*arguments, **named)

    async def all(self, name: str, /, *arguments: Any, **named: Any) -> list[Any]:
        part, _, method = name.partition(".")
        if self.is_sync:
            called = getattr(getattr(self.sync, part), method)
            return await asyncio.to_thread(lambda: list(called(*arguments, **named)))
        iterator = getattr(getattr(self.other, part), method)(*arguments, **named)
        return [item async for item in iterator]

    async def raw(self, *arguments: Any, **named: Any) -> Any:
        if self.is_sync:
            return await asyncio.to_thread(lambda: self.sync.request(*arguments, **named))
        return await self.other.request(*arguments, **named)


Make = Callable[..., Client]


@pytest.fixture(params=["sync", "async"])
async def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.0)
    made: list[Client] = []

    def client(handle: Handler, **options: Any) -> Client:
        made.append(Client(request.param, handle, **options))
        return made[-1]

    yield client
    for one in made:
        one.sync.close()
        await one.other.aclose()


CREATED = {
    "session_id": SESSION,
    "status": "dispatched",
    "room": SESSION,
    "livekit_url": "ws://livekit",
    "token": "a-join-token",
    "events_url": f"http://api.test/v1/sessions/{SESSION}/events",
    "new_in_a_later_version": True,
}


async def test_create_sends_what_was_given_and_a_key_of_its_own(make: Make) -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(201, json=CREATED)

    client = make(handle)
    created = await client.call("sessions.create", flow_id="booking", user_id="ada", metadata={"a": 1})
    await client.call("sessions.create", flow_id="booking", user_id="ada", idempotency_key="order-17")

    assert (created.session_id, created.token, created.replayed) == (SESSION, "a-join-token", False)
    first, second = requests
    assert str(first.url) == f"{URL}/v1/sessions"
    assert json.loads(first.content) == {"flow_id": "booking", "user_id": "ada", "metadata": {"a": 1}}
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert len(first.headers["idempotency-key"]) == 32
    assert second.headers["idempotency-key"] == "order-17"


async def test_any_request_sends_a_body_and_headers_as_they_are(make: Make) -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"revision": 2})

    client = make(handle)
    answer = await client.raw(
        "PUT", "/v1/flows/x", headers={"If-Match": "1"}, raw=("application/yaml", b"id: x\n")
    )

    assert answer == {"revision": 2}
    assert requests[0].content == b"id: x\n"
    assert requests[0].headers["content-type"] == "application/yaml"
    assert requests[0].headers["if-match"] == "1"


async def test_create_is_repeated_with_the_same_key(make: Make) -> None:
    keys: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("connection reset")
        if len(keys) == 2:
            return httpx.Response(503, headers={"Retry-After": "0"}, html="<p>busy</p>")
        return httpx.Response(201, json=CREATED, headers={"Idempotent-Replayed": "true"})

    created = await make(handle).call("sessions.create", agent_name="mine", user_id="ada")

    assert created.replayed
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_secrets_are_in_no_text(make: Make) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/sessions"):
            return httpx.Response(201, json=CREATED)
        raise httpx.ConnectError("refused")

    client = make(handle, max_retries=0)
    created = await client.call("sessions.create", flow_id="booking", user_id="ada")
    with pytest.raises(ConnectionFailed, match=r"api\.test.*does not respond: refused") as failed:
        await client.call("sessions.get", SESSION)

    texts = (created, failed.value, client.sync, client.other, client.sync._target)
    assert not any(KEY in repr(one) or KEY in str(one) for one in texts)
    assert "a-join-token" not in repr(created)


async def test_an_error_is_an_exception_with_its_problem(make: Make) -> None:
    problem = {"type": "https://antiphon.dev/problems/unknown-session", "title": "Unknown session"}

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json=problem, headers={"X-Request-Id": "req_7"})

    with pytest.raises(NotFound) as failed:
        await make(handle).call("sessions.get", SESSION)

    assert failed.value.problem.kind == "unknown-session"
    assert failed.value.request_id == "req_7"


async def test_a_redirect_is_not_followed(make: Make) -> None:
    hosts: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(307, headers={"Location": "http://elsewhere.test/"})

    client = make(handle)
    for failing in (client.call("sessions.get", SESSION), client.all("sessions.stream", SESSION)):
        with pytest.raises(Exception, match="redirects are not followed"):
            await failing

    assert hosts == ["api.test", "api.test"]


async def test_lists_read_their_pages(make: Make) -> None:
    queries: list[list[tuple[str, str]]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        queries.append(request.url.params.multi_items())
        number = len(queries)
        session = {"session_id": f"ses_{number}", "tenant": "default", "status": "ready"}
        return httpx.Response(
            200, json={"sessions": [session], "next": f"page-{number}" if number < 3 else None}
        )

    client = make(handle)
    found = await client.all(
        "sessions.list", status=["ready", "active"], metadata={"order": "A-17"}, page_size=1
    )

    assert [session.session_id for session in found] == ["ses_1", "ses_2", "ses_3"]
    assert queries[0] == [
        ("status", "ready"),
        ("status", "active"),
        ("metadata[order]", "A-17"),
        ("limit", "1"),
    ]
    assert queries[1][-1] == ("cursor", "page-1")


async def test_events_are_typed_and_continue_by_sequence(make: Make) -> None:
    asked: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        asked.append(after)
        start = int(after or 0)
        body = {"reason": "agent_ended", "fault": "none", "duration_seconds": 1.5, "turns": 2}
        events = [event(start + 1, "session.closed", **body), event(start + 2, "moon.rose", phase=1)]
        return httpx.Response(200, json={"events": events, "next": "opaque" if start < 2 else None})

    found = await make(handle).all("sessions.events", SESSION)

    assert asked == [None, "2"]
    assert [one.sequence for one in found] == [1, 2, 3, 4]
    assert found[0].body.turns == 2
    assert found[0].terminal
    assert (found[1].body, found[1].data) == (None, {"phase": 1})


async def test_a_stream_is_followed_to_its_end(make: Make) -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["last-event-id"])
        stream = {"Content-Type": "text/event-stream"}
        match asked[-1]:
            case "0":
                return httpx.Response(200, headers=stream, content=b"retry: 0\n\n" + sse(1, 2))
            case "2" if asked.count("2") == 1:
                return httpx.Response(503, headers={"Retry-After": "0"})
            case "2":
                return httpx.Response(200, headers=stream, content=sse(3, 4, last=3))
        return httpx.Response(204)

    found = await make(handle).all("sessions.stream", SESSION)

    assert [one.sequence for one in found] == [1, 2, 3, 4]
    assert asked == ["0", "2", "2", "4"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_stream_raises(make: Make, status: int) -> None:
    client = make(lambda _: httpx.Response(status, json={"title": "No", "type": "about:blank"}))

    with pytest.raises(Exception, match=f"No \\({status}\\)") as failed:
        await client.all("sessions.stream", SESSION)
    assert getattr(failed.value, "status", None) == status


async def test_calls_have_their_parts(make: Make) -> None:
    requests: list[tuple[str, str, bytes]] = []
    key = {"id": "key_1", "name": "n", "secret": "s" * 40, "scopes": ["admin"], "session_id": SESSION}
    more = {"ended": True, "room": "r", "livekit_url": "w", "identity": "i", "token": "t"}

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path.removeprefix("/antiphon"), request.content))
        return httpx.Response(200, json={**key, **more, "expires_in_seconds": 60})

    client = make(handle)
    assert (await client.call("sessions.end", SESSION)).ended
    token = await client.call("sessions.token", SESSION, identity="ada", ttl_seconds=60)
    assert (token.token, token.expires_in_seconds) == ("t", 60)
    created = await client.call("keys.create", name="n", scopes=["admin"])
    assert created.secret == "s" * 40
    assert "s" * 40 not in repr(created)
    await client.call("keys.rotate", "key_1", overlap_seconds=60)
    await client.call("keys.revoke", "key_1")

    assert requests == [
        ("POST", f"/v1/sessions/{SESSION}/end", b""),
        ("POST", f"/v1/sessions/{SESSION}/token", b'{"identity":"ada","ttl_seconds":60}'),
        ("POST", "/v1/keys", b'{"name":"n","scopes":["admin"]}'),
        ("POST", "/v1/keys/key_1/rotate", b'{"overlap_seconds":60}'),
        ("POST", "/v1/keys/key_1/revoke", b"{}"),
    ]


async def test_a_create_that_waits_has_more_time(make: Make) -> None:
    seen: list[tuple[list[tuple[str, str]], float]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.params.multi_items(), request.extensions["timeout"]["read"]))
        return httpx.Response(202, json={**CREATED, "greeting": "Good day."})

    client = make(handle)
    await client.call("sessions.create", flow_id="f", user_id="u", wait="ready", wait_seconds=40)
    created = await client.call("sessions.create", flow_id="f", user_id="u", wait="ready")

    assert created.greeting == "Good day."
    assert [params for params, _ in seen] == [
        [("wait", "ready"), ("timeout_seconds", "40")],
        [("wait", "ready")],
    ]
    assert [round(seconds) for _, seconds in seen] == [55, 25]


async def test_any_request_can_be_sent(make: Make) -> None:
    client = make(
        lambda request: httpx.Response(200, json=[request.method, request.url.path, str(request.url.params)])
    )

    assert await client.raw("PATCH", "/v1/moons", {"a": 1}, params={"b": None, "c": 2}) == [
        "PATCH",
        "/antiphon/v1/moons",
        "c=2",
    ]
    with pytest.raises(ValueError, match="begin with /"):
        await client.raw("GET", "@elsewhere.test/")


async def test_a_new_key_is_not_requested_twice(make: Make) -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ReadTimeout("late")

    with pytest.raises(Timeout):
        await make(handle).call("keys.create", name="n", scopes=["admin"])
    assert len(requests) == 1


async def test_a_server_that_is_not_session_api_is_named(make: Make) -> None:
    client = make(lambda _: httpx.Response(200, html="<p>Welcome</p>"))

    for failing in (client.call("sessions.get", SESSION), client.all("sessions.list")):
        with pytest.raises(UnreadableResponse, match="is base_url"):
            await failing
    with pytest.raises(UnreadableResponse, match="event stream"):
        await client.all("sessions.stream", SESSION)


async def test_a_wrong_key_raises(make: Make) -> None:
    with pytest.raises(AuthenticationError):
        await make(lambda _: httpx.Response(401)).call("sessions.get", SESSION)


@pytest.mark.parametrize("kind", [Antiphon, AsyncAntiphon])
def test_address_and_key_come_from_the_environment(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_API_URL", raising=False)
    monkeypatch.delenv("ANTIPHON_API_KEY", raising=False)
    with pytest.raises(InvalidClientSettings, match="ANTIPHON_API_URL"):
        kind()
    monkeypatch.setenv("ANTIPHON_API_URL", "http://here.test/")
    with pytest.raises(InvalidClientSettings, match="ANTIPHON_API_KEY"):
        kind()
    monkeypatch.setenv("ANTIPHON_API_KEY", "a-key")

    assert repr(kind()) == f"<{kind.__name__} http://here.test>"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://host", KEY),
        ("host:80", KEY),
        ("http://", KEY),
        (f"http://user:{KEY}@host", KEY),
        (f"http://host?key={KEY}", KEY),
        ("http://host:port", KEY),
        ("http://host", f"{KEY}\n"),
        ("http://host", f"{KEY} é"),
    ],
)
def test_a_wrong_address_or_key_is_refused_without_being_shown(url: str, key: str) -> None:
    with pytest.raises(InvalidClientSettings) as refused:
        Antiphon(url, key)

    assert KEY not in str(refused.value)
