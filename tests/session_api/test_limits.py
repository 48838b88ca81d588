"""Rate limits: counted in windows, shown in headers, bounded in memory; a valid key is never locked out."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import ApiKey, KeyLimits, encode_key, key_digest
from antiphon.session_api.limits import Counters, RateLimit, headers_of

CREATE = {"flow_id": "booking", "user_id": "ada"}
WRITER = {"Authorization": "Bearer writer"}
NOBODY = {"Authorization": "Bearer nobody"}
Put = Callable[..., Awaitable[str]]


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


def test_a_window_admits_its_limit_and_then_the_next_window() -> None:
    now = [100.0]
    limit = RateLimit("requests", 1, lambda: now[0])

    standings = [limit.hit("a") for _ in range(11)]
    assert [standing.allowed for standing in standings if standing] == [True] * 10 + [False]
    assert [standing.remaining for standing in standings if standing][-2:] == [0, 0]
    other = limit.hit("b")
    assert other is not None
    assert other.allowed
    now[0] += 9.5
    late = limit.hit("a")
    assert late is not None
    assert not late.allowed
    assert late.reset_seconds == 1
    now[0] += 0.5
    renewed = limit.hit("a")
    assert renewed is not None
    assert renewed.allowed
    assert renewed.remaining == 9


def test_zero_is_no_limit_and_a_key_may_have_its_own() -> None:
    limit = RateLimit("requests", 0)

    assert limit.hit("a") is None
    own = limit.hit("a", 3)
    assert own is not None
    assert (own.limit, own.remaining) == (30, 29)


def test_headers_are_structured_fields() -> None:
    requests, creates = RateLimit("requests", 5, lambda: 7.0), RateLimit("creates", 1, lambda: 7.0)
    standings = [requests.hit("a"), creates.hit("a")]

    assert headers_of(*(standing for standing in standings if standing)) == {
        "RateLimit-Policy": '"requests";q=50;w=10, "creates";q=10;w=10',
        "RateLimit": '"requests";r=49;t=10, "creates";r=9;t=10',
    }


def test_counters_are_bounded_and_forget_what_was_used_longest_ago() -> None:
    counters = Counters(size=3, clock=lambda: 1.0)
    for name in ("a", "b", "c", "a", "d"):
        counters.incr(name, 10)

    assert len(counters) == 3
    assert (counters.get("a"), counters.get("b"), counters.get("d")) == (2, 0, 1)


async def test_a_response_shows_what_is_left(client: httpx.AsyncClient) -> None:
    listed = await client.get("/v1/sessions")
    created = await client.post("/v1/sessions", json=CREATE)
    missing = await client.get("/v1/sessions/ses_x")

    of_requests = '"requests";q=10000;w=10, "tenant-requests";q=50000;w=10'
    assert listed.headers["ratelimit-policy"] == of_requests
    assert listed.headers["ratelimit"].startswith('"requests";r=9999;t=')
    assert created.headers["ratelimit-policy"] == f'{of_requests}, "creates";q=2000;w=10'
    assert missing.status_code == 404
    assert missing.headers["ratelimit"].startswith('"requests";r=9997;t=')
    assert "ratelimit" not in (await client.get("/health/live")).headers


async def test_too_many_requests_of_a_key_respond_429(start: Any) -> None:
    running = await start(requests_per_key=1)
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER) as client:
        answers = [await client.get("/v1/flows") for _ in range(11)]
        other = await client.get("/v1/flows", headers={"Authorization": "Bearer reader"})

    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert problem(answers[-1]) == (429, "rate-limited")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert answers[-1].headers["ratelimit"].startswith('"requests";r=0;t=')
    assert answers[-1].headers["ratelimit-policy"] == '"requests";q=10;w=10'
    assert other.status_code == 200


async def test_too_many_creates_of_a_tenant_respond_429(start: Any, put_key: Put, until: Any) -> None:
    running = await start(creates_per_tenant=1)
    await put_key("second")
    second = {"Authorization": "Bearer second"}
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=15) as client:

        async def known() -> bool:
            return (await client.get("/v1/flows", headers=second)).status_code == 200

        await until(known)
        answers = [
            await client.post("/v1/sessions", json=CREATE, headers=second if number % 2 else WRITER)
            for number in range(11)
        ]
        foreign = await client.post("/v1/sessions", json=CREATE, headers={"Authorization": "Bearer foreign"})
        reading = await client.get("/v1/flows")

    assert [answer.status_code for answer in answers] == [201] * 10 + [429]
    assert problem(answers[-1]) == (429, "rate-limited")
    assert foreign.status_code == 404  # no such flow: another tenant's creates are counted apart
    assert reading.status_code == 200


async def test_a_key_may_have_a_limit_of_its_own(client: httpx.AsyncClient, bus: Bus, until: Any) -> None:
    limits = KeyLimits(requests_per_second=1)
    key = ApiKey(tenant="default", name="slow", scopes=frozenset({"sessions:read"}), limits=limits)
    await (await bus.bucket("keys")).put(key_digest("slow"), encode_key(key))
    slow = {"Authorization": "Bearer slow"}

    async def limited() -> bool:
        return (await client.get("/v1/flows", headers=slow)).status_code == 429

    await until(limited)
    assert (await client.get("/v1/flows")).status_code == 200


async def test_requests_without_a_valid_key_are_limited_and_a_valid_key_is_not(start: Any) -> None:
    running = await start(failures_per_address=1)
    async with httpx.AsyncClient(base_url=running.url) as client:
        answers = [await client.get("/v1/flows", headers=NOBODY) for _ in range(12)]
        without = await client.get("/v1/flows")
        valid = await client.get("/v1/flows", headers=WRITER)

    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert problem(without) == (429, "rate-limited")
    assert without.headers["retry-after"]
    assert valid.status_code == 200


@pytest.mark.parametrize("secret", ["nobody", "reader"])
async def test_a_refused_request_is_answered_before_its_body(secret: str, start: Any) -> None:
    running = await start()
    port = int(running.url.rpartition(":")[2])
    head = (
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        connection.sendall(head.encode())
        answer = await _read(connection)

    assert answer.startswith(b"HTTP/1.1 401" if secret == "nobody" else b"HTTP/1.1 403")


async def _read(connection: socket.socket) -> bytes:
    async with asyncio.timeout(60):
        return await asyncio.get_running_loop().sock_recv(connection, 4096)
