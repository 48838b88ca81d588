"""HTTP tools of flows, against servers on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from tests.agent_worker.tools.conftest import Open

KEY = "s3cr3t-k3y/of the+test"
ENVIRONMENT = {"ANTIPHON_SECRET_KEY": KEY}
ORDER = {"order": {"type": "string"}}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Serve all requests by a function; yield the URL and the requests, whose bodies have been read."""
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        seen.append(request)
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}", seen  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


def tool(url: str, *, arguments: Any = None, timeout_seconds: float = 10, **request: Any) -> dict[str, Any]:
    return {
        "look_up": {
            "http": {"url": url, "private": True, **request},
            "description": "Look up.",
            "arguments": ORDER if arguments is None else arguments,
            "timeout_seconds": timeout_seconds,
        }
    }


async def ok(_request: web.Request) -> web.Response:
    return web.json_response({"state": "sent", "ä": [1, 2]})


def answering(*responses: Callable[[], web.Response]) -> Answer:
    """Answer by each in turn, then by the last one."""
    left = list(responses)

    async def answer(_request: web.Request) -> web.Response:
        return (left.pop(0) if len(left) > 1 else left[0])()

    return answer


async def test_request_has_arguments_secrets_and_variables(talk: Open, logged: Callable[[], str]) -> None:
    async with serving(ok) as (url, seen):
        tools = tool(
            f"{url}/orders/{{order}}?key={{secret.KEY}}&limit={{limit}}",
            headers={"X-Api-Key": "Bearer {secret.KEY}"},
            arguments={**ORDER, "limit": {"type": "integer", "default": 5}, "deep": {"type": "boolean"}},
        )
        async with talk(tools, environment=ENVIRONMENT) as spoken:
            output = await spoken.call("look_up", order="a/b c", deep=True)
            assert json.loads(output.output) == {"state": "sent", "ä": [1, 2]}
            (request,) = seen
            assert request.method == "GET"
            assert request.raw_path == "/orders/a%2Fb%20c?key=s3cr3t-k3y%2Fof%20the%2Btest&limit=5&deep=true"
            assert request.headers["X-Api-Key"] == f"Bearer {KEY}"
            assert "s3cr3t" not in repr(spoken.events)
            assert (spoken.completed[0].status, spoken.completed[0].output) == ("done", output.output)
    assert "s3cr3t" not in logged()
    assert "a%2Fb" not in logged()  # what a caller says is not logged


async def test_body_is_the_other_arguments_or_what_the_flow_says(talk: Open) -> None:
    arguments = {**ORDER, "count": {"type": "integer"}}
    async with serving(ok) as (url, seen):
        async with talk(tool(f"{url}/{{order}}", method="POST", arguments=arguments)) as spoken:
            await spoken.call("look_up", order="7", count=2)
        body = {"n": "{count}", "text": "order {order}", "list": ["{order}", 1], "fixed": True}
        async with talk(tool(url, method="PATCH", body=body, arguments=arguments)) as spoken:
            await spoken.call("look_up", order="7", count=2)
        assert [await request.json() for request in seen] == [
            {"count": 2},
            {"n": 2, "text": "order 7", "list": ["7", 1], "fixed": True},
        ]
        assert [(request.method, request.path) for request in seen] == [("POST", "/7"), ("PATCH", "/")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "invalid arguments: $: 'order' is a required property"),
        ({"order": 7}, "invalid arguments: order: 7 is not of type 'string'"),
        ({"order": ".."}, "the request cannot be made: {order} has a part . or .., and the path"),
        ({"order": ""}, "the request cannot be made: {order} is empty"),
        ({"order": "1", "host": "x"}, "Additional properties are not allowed"),
    ],
)
async def test_wrong_arguments_make_no_request(talk: Open, given: dict[str, Any], told: str) -> None:
    async with serving(ok) as (url, seen), talk(tool(f"{url}/{{order}}")) as spoken:
        output = await spoken.call("look_up", **given)
        assert output.is_error
        assert told in output.output
        assert seen == []


async def test_header_cannot_be_split(talk: Open) -> None:
    async with serving(ok) as (url, seen):
        async with talk(tool(url, headers={"X-Order": "{order}"})) as spoken:
            output = await spoken.call("look_up", order="1\r\nX-Admin: yes")
            assert "the header X-Order has a character" in output.output
        assert seen == []


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (lambda: web.Response(text="plain"), "plain"),
        (lambda: web.Response(status=204), ""),
        (lambda: web.json_response({"why": "unknown order"}, status=404), 'answered 404 Not Found: {"why":'),
        (lambda: web.Response(text="Traceback: line 1", status=500), "the service answered 500 Internal"),
        (lambda: web.Response(text=f"bad key {KEY}", status=401), "the service answered 401 Unauthorized"),
        (lambda: web.Response(text=f"no order for {KEY}", status=400), "400 Bad Request: no order for ***"),
        (lambda: web.Response(body=b"\x89PNG", content_type="image/png"), "answered with image/png"),
        (lambda: web.Response(body=b"{no", content_type="application/json"), "JSON that cannot be read"),
        (lambda: web.Response(body=b"[" * 9999, content_type="application/json"), "JSON that cannot be read"),
        (lambda: web.Response(body=b"x", headers={"Content-Encoding": "gzip"}), "the encoding 'gzip'"),
        (lambda: web.Response(body=b"\xff", headers={"Content-Type": "text/x; charset=nonsense"}), "\ufffd"),
    ],
)
async def test_answers(talk: Open, response: Callable[[], web.Response], told: str) -> None:
    async with (
        serving(answering(response)) as (url, _),
        talk(tool(url, retries=0), environment=ENVIRONMENT) as spoken,
    ):
        output = await spoken.call("look_up", order="1")
        assert told in output.output
        assert "Traceback" not in output.output
        assert "s3cr3t" not in output.output
        assert spoken.completed[0].status == ("error" if output.is_error else "done")


async def test_secret_that_a_service_sends_back_is_hidden(talk: Open) -> None:
    echo = answering(lambda: web.json_response({"you_sent": KEY}))
    async with serving(echo) as (url, _), talk(tool(url), environment=ENVIRONMENT) as spoken:
        assert json.loads((await spoken.call("look_up", order="1")).output) == {"you_sent": "***"}
        assert "s3cr3t" not in repr(spoken.events)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_safe_requests_are_sent_again(talk: Open, method: str, status: int) -> None:
    busy = lambda: web.Response(status=status, headers={"Retry-After": "0"})  # noqa: E731
    async with serving(answering(busy, busy, lambda: web.json_response({}))) as (url, seen):
        async with talk(tool(url, method=method)) as spoken:
            assert not (await spoken.call("look_up", order="1")).is_error
        assert len(seen) == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_other_requests_are_sent_once(talk: Open, method: str) -> None:
    async with serving(answering(lambda: web.Response(status=503))) as (url, seen):
        async with talk(tool(url, method=method)) as spoken:
            assert (
                await spoken.call("look_up", order="1")
            ).output == "the service answered 503 Service Unavailable"
        assert len(seen) == 1


async def test_retries_end(talk: Open) -> None:
    async with serving(answering(lambda: web.Response(status=503))) as (url, seen):
        async with talk(tool(url, retries=1)) as spoken:
            assert (await spoken.call("look_up", order="1")).output == "the service is busy: it answered 503"
        assert len(seen) == 2


async def test_service_that_asks_to_wait_longer_than_the_call_is_not_waited_for(talk: Open) -> None:
    busy = lambda: web.Response(status=429, headers={"Retry-After": "3600"})  # noqa: E731
    async with serving(answering(busy)) as (url, seen):
        async with talk(tool(url, timeout_seconds=60)) as spoken:
            async with asyncio.timeout(30):
                output = await spoken.call("look_up", order="1")
            assert output.output == "the service is busy: it answered 429"
        assert len(seen) == 1


async def test_service_that_is_down_is_an_error(talk: Open) -> None:
    async with serving(ok) as (url, _):
        pass
    async with talk(tool(url)) as spoken:
        assert (await spoken.call("look_up", order="1")).output == "the service cannot be reached"


async def test_connection_that_breaks_is_tried_again(talk: Open) -> None:
    broken = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal broken
        if broken < 2:
            broken += 1
            assert request.transport is not None
            request.transport.abort()
        return await ok(request)

    async with serving(answer) as (url, _), talk(tool(url)) as spoken:
        assert not (await spoken.call("look_up", order="1")).is_error


async def _never_ending(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    while True:
        await response.write(b"x" * 4096)


async def _slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.05)


async def _silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(600)
    return web.Response()


async def _declared(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 70_000)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_never_ending, "the response is larger than 65536 bytes"),
        (_declared, "the response is larger than 65536 bytes"),
        (_slow, "look_up did not answer within 1 s"),
        (_silent, "look_up did not answer within 1 s"),
    ],
)
async def test_answer_has_a_size_and_a_time(talk: Open, answer: Answer, told: str) -> None:
    async with serving(answer) as (url, _):
        seconds = 1 if "within" in told else 60
        async with talk(tool(url, timeout_seconds=seconds) | {}) as spoken:
            output = await spoken.call("look_up", order="1")
            assert (output.is_error, output.output) == (True, told)
            assert (spoken.completed[0].status, spoken.completed[0].output) == ("error", told)


async def test_redirect_to_the_same_host_is_followed(talk: Open) -> None:
    responses = (
        lambda: web.Response(status=307, headers={"Location": "/other"}),
        lambda: web.json_response({}),
    )
    async with serving(answering(*responses)) as (url, seen):
        async with talk(tool(url, method="POST")) as spoken:
            assert not (await spoken.call("look_up", order="1")).is_error
        assert [(request.method, request.path) for request in seen] == [("POST", "/"), ("POST", "/other")]
        assert await seen[1].json() == {"order": "1"}


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "//localhost/",
        "http://[::ffff:127.0.0.1]/",
        "https://127.0.0.1/",
        "http://user@127.0.0.1:1/",
        "http://x:99999999/",
    ],
)
async def test_redirect_to_another_address_is_not_followed(talk: Open, location: str) -> None:
    redirect = answering(lambda: web.Response(status=302, headers={"Location": location}))
    async with serving(redirect) as (url, seen):
        async with talk(tool(url, headers={"X-Key": "{secret.KEY}"}), environment=ENVIRONMENT) as spoken:
            output = await spoken.call("look_up", order="1")
            assert output.is_error
            assert "the service redirects to" in output.output
        assert len(seen) == 1


async def test_redirects_end(talk: Open) -> None:
    redirect = answering(lambda: web.Response(status=302, headers={"Location": "/"}))
    async with serving(redirect) as (url, seen), talk(tool(url)) as spoken:
        assert (await spoken.call("look_up", order="1")).output == "the service redirects too often"
        assert len(seen) == 4


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["10.0.0.1", "fd00::1"], []],
)
async def test_name_that_resolves_to_a_private_address_is_refused(talk: Open, found: list[str]) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return found

    async with serving(ok) as (url, seen):
        port = url.rpartition(":")[2]
        tools = tool(f"http://rebind.example:{port}/", private=False)
        async with talk(tools, resolve=resolve) as spoken:
            output = await spoken.call("look_up", order="1")
            assert output.output == "the address of the service is private, and the flow does not allow it"
        assert seen == []


async def test_name_is_resolved_once_and_the_checked_address_is_used(talk: Open) -> None:
    """A name that is public when it is checked and private a moment later leads to the public address."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    async with serving(ok) as (url, seen):
        port = url.rpartition(":")[2]
        tools = tool(f"http://rebind.example:{port}/", private=False, retries=0, timeout_seconds=3)
        async with talk(tools, resolve=resolve) as spoken:
            assert (await spoken.call("look_up", order="1")).is_error
            assert asked == ["rebind.example"]
        assert seen == []


@pytest.mark.parametrize(
    "host", ["[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "[::1]", "0", "localhost"]
)
async def test_private_address_in_other_forms_is_refused(talk: Open, host: str) -> None:
    """`{secret.BASE}` hides the host from the check of the flow."""
    async with serving(ok) as (url, seen):
        environment = {"ANTIPHON_SECRET_BASE": f"http://{host}:{url.rpartition(':')[2]}"}
        tools = tool("{secret.BASE}/", private=False, retries=0)
        async with talk(tools, environment=environment) as spoken:
            output = await spoken.call("look_up", order="1")
            assert output.is_error
            assert output.output in (
                "the address of the service is private, and the flow does not allow it",
                "the service cannot be reached",  # a form that the resolver does not know
                "the request cannot be made: the URL is too long or not valid",
            )
        assert seen == []


async def test_proxy_of_the_environment_is_not_used(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serving(ok) as (url, _), talk(tool(url)) as spoken:
        assert not (await spoken.call("look_up", order="1")).is_error


async def test_connection_is_kept_for_the_next_call(talk: Open) -> None:
    async with serving(ok) as (url, seen), talk(tool(url)) as spoken:
        for _ in range(3):
            await spoken.call("look_up", order="1")
        assert (
            len({request.transport and request.transport.get_extra_info("peername") for request in seen}) == 1
        )
