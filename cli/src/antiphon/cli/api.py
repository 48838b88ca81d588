"""A client of session-api."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx

from antiphon.cli.errors import StackError
from antiphon.cli.screen import shown
from antiphon.contracts.session import TERMINAL_TYPES

TIMEOUT_SECONDS = 15.0
READ_SECONDS = 45.0  # the read timeout of a stream; the server sends a comment every 15 s
STREAM_TRIES = 10  # consecutive failures without an event
RETRY_SECONDS = 1.0
MAX_DIGITS = 4_000

Json = dict[str, Any]


class ApiFailed(StackError):
    """session-api refused a request or did not respond."""


class SessionApi:
    """A client of one session-api, as an async context manager."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create(self, flow: str | None, user: str, *, agent_name: str | None = None) -> Json:
        """Create a session of a flow or an agent, and return the response, with the caller's token."""
        body = {"flow_id": flow, "agent_name": agent_name, "user_id": user}
        return await self._json("POST", "/v1/sessions", json=body)

    async def session(self, session_id: str) -> Json:
        """Return one session."""
        return await self._json("GET", f"/v1/sessions/{session_id}")

    async def sessions(self, *, limit: int, room: str | None = None) -> list[Json]:
        """Return the newest sessions, newest first; with `room` only those of that room."""
        wanted = {"limit": limit} if room is None else {"limit": limit, "room": room}
        page = await self._json("GET", "/v1/sessions", params=wanted)
        return list(page["sessions"])

    def turns(self, session_id: str) -> AsyncIterator[Json]:
        """Iterate over a session's turns in order."""
        return self._pages(f"/v1/sessions/{session_id}/turns", "turns")

    def events(self, session_id: str) -> AsyncIterator[Json]:
        """Iterate over a session's committed events in order."""
        return self._pages(f"/v1/sessions/{session_id}/events", "events")

    async def follow(self, session_id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Iterate over a session's events, past and live, to its last.

        A broken stream is resumed after the last event received.
        Raises ApiFailed after ten failures in a row.
        """
        failures = 0
        while True:
            try:
                async for event in self._stream(session_id, after):
                    yield event
                    after, failures = event["sequence"], 0
                    if event["type"] in TERMINAL_TYPES:
                        return
            except httpx.TransportError as error:
                if failures == STREAM_TRIES:
                    raise ApiFailed(f"session-api does not respond: {error}") from error
            failures += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _stream(self, session_id: str, after: int) -> AsyncIterator[Json]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=READ_SECONDS)
        path = f"/v1/sessions/{session_id}/events"
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                raise ApiFailed(_problem(response))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise ApiFailed(f"{response.url} is not an event stream: is it session-api's address?")
            data: list[bytes] = []
            async for line in _lines(response.aiter_bytes()):
                field, _, value = line.partition(b":")
                if field == b"data":
                    data.append(value.removeprefix(b" "))
                elif not line and data:
                    yield _decoded(b"\n".join(data))
                    data.clear()

    async def _pages(self, path: str, name: str) -> AsyncIterator[Json]:
        cursor = None
        while True:
            page = await self._json("GET", path, params={} if cursor is None else {"cursor": cursor})
            for item in page[name]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ApiFailed(f"session-api at {self._http.base_url} does not respond: {error}") from error
        if not response.is_success:
            raise ApiFailed(_problem(response))
        try:
            return _decoded(response.content)
        except ValueError as error:
            raise ApiFailed(f"{response.url} is not JSON: is it session-api's address?") from error


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Iterate over the complete lines of a stream; httpx's lines also end inside texts, as at U+2028."""
    rest: list[bytes] = []
    async for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest.append(first)
        for following in more:
            yield b"".join(rest).removesuffix(b"\r")
            rest = [following]


def _decoded(raw: bytes) -> Json:
    document: Json = json.loads(raw, parse_int=_number)
    return document


def _number(digits: str) -> int | str:
    # Python converts no more digits; an event may hold more.
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _problem(response: httpx.Response) -> str:
    """Return a problem document as one line."""
    try:
        problem = response.json()
        line = f"{problem['title']} ({response.status_code}): {problem.get('detail') or problem['type']}"
        reasons = [f"{error['field']}: {error['message']}" for error in problem.get("errors", ())]
        line = " ".join([line, "; ".join(reasons)]) if reasons else line
    except (ValueError, KeyError, TypeError, AttributeError):
        line = f"HTTP {response.status_code}: {response.text[:200]}"
    return shown(line)
