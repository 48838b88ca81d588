"""Ten concurrent requests with one idempotency key create one session, one room and one agent."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller

BODY = {"flow_id": "booking", "user_id": "ada", "metadata": {"order": 17}}


async def test_same_key_creates_one_session(
    http: httpx.AsyncClient, api: SessionApi, to_the_end: Callable[[str], Awaitable[list[Json]]]
) -> None:
    headers = {"Idempotency-Key": uuid4().hex}

    responses = await asyncio.gather(
        *(http.post("/v1/sessions", json=BODY, headers=headers) for _ in range(10))
    )
    other = await http.post("/v1/sessions", json=BODY | {"user_id": "eve"}, headers=headers)

    assert {response.status_code for response in responses} <= {200, 201}
    (session,) = {response.json()["session_id"] for response in responses}
    replayed = [response.headers.get("Idempotent-Replayed") == "true" for response in responses]
    assert sorted(replayed) == [False] + [True] * 9
    assert other.status_code == 422
    assert other.headers["content-type"].startswith("application/problem+json")

    created = responses[0].json()
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
    events = await to_the_end(session)
    kinds = [event["type"] for event in events]
    assert kinds.count("session.requested") == 1
    assert kinds.count("agent.joined") == 1
    assert kinds.count("livekit.room_started") == 1
