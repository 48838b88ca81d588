"""Calls: sessions of a flow, each with an agent in its room, which go on until something ends them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

FLOW = "booking"
TTL_SECONDS = 600  # of a room without a caller
READY_SECONDS = 120.0
ENDED_SECONDS = 60.0
ENDED = {"closed", "failed"}


class Calls:
    """Calls that were begun, by the ids of their sessions."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.begun: list[str] = []
        self._client = client

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, key: str) -> AsyncIterator[Self]:
        """Yield the calls of a deployment: none yet."""
        async with httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        ) as client:
            yield cls(client)

    async def begin(self) -> None:
        """Begin a call, and wait until its agent is in the room."""
        body = {"flow_id": FLOW, "user_id": "ada", "ttl_seconds": TTL_SECONDS}
        session = await self._ask("POST", "/v1/sessions", json=body)
        self.begun.append(session["session_id"])
        async with asyncio.timeout(READY_SECONDS):
            while session.get("agent_state") in (None, "initializing"):
                assert session["status"] not in ENDED, session
                path = f"/v1/sessions/{session['session_id']}"
                session = await self._ask("GET", path, params={"wait": "ready", "timeout_seconds": 10})

    async def states(self) -> list[tuple[str, str | None]]:
        """Return status and reason of each call."""
        sessions = [await self._ask("GET", f"/v1/sessions/{each}") for each in self.begun]
        return [(session["status"], session.get("reason")) for session in sessions]

    async def end(self) -> None:
        """End all calls, and wait until they have."""
        for each in self.begun:
            await self._ask("POST", f"/v1/sessions/{each}/end")
        async with asyncio.timeout(ENDED_SECONDS):
            while {status for status, _ in await self.states()} - ENDED:  # noqa: ASYNC110 - the API tells
                await asyncio.sleep(0.1)

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = await self._client.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text[:500]}"
        document: dict[str, Any] = response.json()
        return document
