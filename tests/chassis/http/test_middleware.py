"""What the middleware adds to every request and response."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.contextvars import get_contextvars

from antiphon.chassis.http.cors import Cors
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.middleware import RequestMiddleware, extend_deadline
from antiphon.chassis.http.problem import Problem, of_status, problem_response

CONSOLE = "https://console.example.com"
LARGE = {"text": "x" * 5000}
Api = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def _to_response(request: Request, error: Exception) -> Response:
    match error:
        case Problem():
            return problem_response(request, error)
        case HTTPException():
            return problem_response(request, of_status(error))
        case _:
            return problem_response(request, Problem(500, "internal-error", "Internal error."))


async def _small(_: Request) -> Response:
    return JSONResponse({"text": "small"})


async def _large(_: Request) -> Response:
    return JSONResponse(LARGE)


async def _tagged(_: Request) -> Response:
    return JSONResponse(LARGE, headers={"ETag": '"1"'})


async def _create(request: Request) -> Response:
    structlog.get_logger("test").info("creating")
    return JSONResponse({"bytes": len(await request.body()), **get_contextvars()}, 201)


async def _fail(_: Request) -> Response:
    raise Problem(409, "taken", "No.", headers={"X-Reason": "taken"})


async def _break(_: Request) -> Response:
    raise ZeroDivisionError("a secret")


async def _hang(request: Request) -> Response:
    if "seconds" in request.query_params:
        extend_deadline(request, 60)
        await asyncio.sleep(float(request.query_params["seconds"]))
        return JSONResponse({})
    await asyncio.sleep(600)
    return JSONResponse({})


async def _stream(_: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.3)
            yield b"data: %s\n\n" % (b"x" * 3000)

    return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture
def api() -> Api:
    """A function that opens a client of an app behind the middleware with the given policy."""

    @asynccontextmanager
    async def opened(**policy: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = Starlette(
            routes=[
                Route("/v1/small", _small),
                Route("/v1/small", _create, methods=["POST"]),
                Route("/v1/large", _large),
                Route("/v1/tagged", _tagged),
                Route("/v1/fail", _fail),
                Route("/v1/break", _break),
                Route("/v1/hang", _hang),
                Route("/v1/stream", _stream),
                Route("/docs", _small),
            ],
            exception_handlers={HTTPException: _to_response},
        )
        app.router.redirect_slashes = False
        given = {"body_limit_bytes": 10_000, **policy}
        app.add_middleware(
            RequestMiddleware,
            policy=HttpPolicy(**given),
            routes=app.router.routes,
            to_response=_to_response,
            new_id=lambda: "req_new",
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield client

    return opened


async def test_a_request_id_is_taken_from_the_client(api: Api) -> None:
    async with api() as client:
        created = await client.post("/v1/small", headers={"X-Request-Id": "order-17"})
        refused = await client.get("/v1/fail", headers={"X-Request-Id": "order-18"})

    assert created.headers["x-request-id"] == "order-17"
    assert created.json()["request_id"] == "order-17", "it is in the context of the log"
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == "order-18"
    assert get_contextvars() == {}


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "x\ty", '"quoted"', "-leading"])
async def test_an_invalid_request_id_is_replaced(api: Api, given: str) -> None:
    async with api() as client:
        response = await client.get("/v1/small", headers={"X-Request-Id": given})

    assert response.headers["x-request-id"] == "req_new"


async def test_an_internal_error_is_a_problem_with_the_request_id(api: Api) -> None:
    async with api() as client:
        response = await client.get("/v1/break")

    assert response.status_code == 500
    assert response.json()["request_id"] == "req_new"
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/v1/small", "/v1/fail", "/v1/nothing", "/v1/break", "/docs"])
async def test_every_response_has_the_security_headers(api: Api, path: str) -> None:
    async with api() as client:
        headers = (await client.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in headers


async def test_hsts_is_sent_when_set(api: Api) -> None:
    async with api(hsts_seconds=600) as client:
        headers = (await client.get("/v1/small")).headers

    assert headers["strict-transport-security"] == "max-age=600"


async def test_only_reads_may_be_kept_and_only_by_the_client(api: Api) -> None:
    async with api() as client:
        read = await client.get("/v1/small")
        created = await client.post("/v1/small")
        refused = await client.get("/v1/fail")
        docs = await client.get("/docs")

    assert read.headers["cache-control"] == "private, no-cache"
    assert created.headers["cache-control"] == refused.headers["cache-control"] == "no-store"
    assert "cache-control" not in docs.headers


async def test_a_read_with_its_etag_responds_304(api: Api) -> None:
    async with api() as client:
        first = await client.get("/v1/large")
        etag = first.headers["etag"]
        answers = [
            await client.get("/v1/large", headers={"If-None-Match": given})
            for given in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*", '"other"')
        ]

    assert [answer.status_code for answer in answers] == [304, 304, 304, 304, 200]
    assert answers[0].content == b""
    assert answers[0].headers["etag"] == etag
    assert "content-length" not in answers[0].headers


async def test_an_etag_of_the_app_is_kept_and_weak_when_compressed(api: Api) -> None:
    async with api() as client:
        plain = await client.get("/v1/tagged", headers={"Accept-Encoding": "identity"})
        small = await client.get("/v1/tagged", headers={"Accept-Encoding": "gzip"})

    assert plain.headers.get_list("etag") == ['"1"']
    assert small.headers.get_list("etag") == ['W/"1"']
    assert plain.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.00, *", None),
        ("br", None),
        ("", None),
    ],
)
async def test_large_json_is_compressed_when_accepted(api: Api, accepted: str, encoding: str | None) -> None:
    async with (
        api() as client,
        client.stream("GET", "/v1/large", headers={"Accept-Encoding": accepted}) as response,
    ):
        raw = b"".join([chunk async for chunk in response.aiter_raw()])

    assert response.headers.get("content-encoding") == encoding
    assert response.headers["vary"] == "Accept-Encoding"
    assert int(response.headers["content-length"]) == len(raw)
    assert json.loads(gzip.decompress(raw) if encoding else raw) == LARGE


async def test_small_json_and_event_streams_are_not_compressed(api: Api) -> None:
    async with api() as client:
        small = await client.get("/v1/small")
        stream = await client.get("/v1/stream")

    assert "content-encoding" not in small.headers
    assert "content-encoding" not in stream.headers
    assert "etag" not in stream.headers


async def test_head_is_get_without_its_body(api: Api) -> None:
    async with api() as client:
        got = await client.get("/v1/large", headers={"Accept-Encoding": "identity"})
        headed = await client.head("/v1/large", headers={"Accept-Encoding": "identity"})
        stream = await client.head("/v1/stream")

    assert (headed.status_code, headed.content) == (200, b"")
    assert dict(headed.headers) == dict(got.headers)
    assert (stream.status_code, stream.content) == (200, b"")


async def test_options_and_405_name_the_methods_of_the_path(api: Api) -> None:
    async with api() as client:
        options = await client.options("/v1/small")
        refused = await client.put("/v1/small")
        unknown = await client.options("/v1/nothing")

    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert refused.json()["type"].endswith("/method-not-allowed")
    assert unknown.status_code == 404


async def test_a_request_that_hangs_responds_503_at_its_deadline(api: Api) -> None:
    async with api(deadline_seconds=0.2) as client:
        response = await client.get("/v1/hang")

    assert response.status_code == 503
    assert response.json()["type"].endswith("/deadline-exceeded")
    assert response.headers["retry-after"] == "2"


async def test_a_request_that_waits_on_purpose_has_more_time(api: Api) -> None:
    async with api(deadline_seconds=0.2) as client:
        response = await client.get("/v1/hang", params={"seconds": "0.6"})

    assert response.status_code == 200


async def test_a_stream_has_no_deadline(api: Api) -> None:
    async with api(deadline_seconds=0.2) as client:
        response = await client.get("/v1/stream")

    assert response.text.count("data: ") == 3


async def test_a_body_that_comes_slowly_has_its_own_time(api: Api) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.15)
            yield b"x"

    async with api(deadline_seconds=0.3) as client:
        response = await client.post("/v1/small", content=slowly())

    assert (response.status_code, response.json()["bytes"]) == (201, 4)


async def test_no_origin_is_allowed_by_default(api: Api) -> None:
    async with api() as client:
        response = await client.get("/v1/small", headers={"Origin": CONSOLE})
        preflight = await client.options(
            "/v1/small", headers={"Origin": CONSOLE, "Access-Control-Request-Method": "GET"}
        )

    for headers in (response.headers, preflight.headers):
        assert not [name for name in headers if name.startswith("access-control-")]


async def test_the_origins_of_the_setting_are_allowed(api: Api) -> None:
    async with api(cors=Cors(frozenset({CONSOLE}))) as client:
        preflight = await client.options(
            "/v1/small",
            headers={
                "Origin": CONSOLE,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, last-event-id",
            },
        )
        response = await client.get("/v1/small", headers={"Origin": CONSOLE})
        refused = await client.get("/v1/fail", headers={"Origin": CONSOLE})
        foreign = await client.get("/v1/small", headers={"Origin": "https://evil.example.com"})

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, POST"
    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "last-event-id", "idempotency-key", "content-type"} <= set(allowed)
    for answer in (preflight, response, refused):
        assert answer.headers["access-control-allow-origin"] == CONSOLE
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {
            "x-request-id",
            "location",
            "link",
            "antiphon-sequence",
            "etag",
            "retry-after",
            "ratelimit",
        } <= set(exposed)
        assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in foreign.headers
    assert "access-control-allow-credentials" not in preflight.headers


async def test_a_body_over_the_limit_responds_413(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 1000

    async with api() as client:
        declared = await client.post("/v1/small", content=b"x" * 10_001)
        chunked = await client.post("/v1/small", content=chunks())

    assert (declared.status_code, chunked.status_code) == (413, 413)


async def test_a_path_with_a_slash_behind_is_unknown(api: Api) -> None:
    async with api() as client:
        response = await client.get("/v1/small/", headers={"Host": "evil.example.com"})

    assert response.status_code == 404
    assert "location" not in response.headers
