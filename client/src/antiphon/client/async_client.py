"""The client for asyncio."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from antiphon.client import analytics, audit, flows, keys, sessions
from antiphon.client.calls import Body, Call, any_call, documented
from antiphon.client.errors import AntiphonError, Timeout
from antiphon.client.event_feeds import AsyncEventFeed
from antiphon.client.events import SessionEvent
from antiphon.client.exporting import ExportedBatch, ExportOptions, exporting
from antiphon.client.feed import FeedFollowing, FeedReading, events, stream_events
from antiphon.client.following import Following
from antiphon.client.pages import Listing
from antiphon.client.reconnecting import GIVE_UP_SECONDS, WATCHDOG_SECONDS
from antiphon.client.resuming import Resuming
from antiphon.client.retry import Outcome, Policy, Send, attempts
from antiphon.client.transport import (
    Connections,
    options,
    reply_of,
    request_of,
    require_open,
    target,
    tls_context,
    translated,
)

GRACE_SECONDS = 0.1  # the time limits of httpx, which tell more, come first

P = ParamSpec("P")
T = TypeVar("T")


def _read(build: Callable[P, FeedReading]) -> Callable[Concatenate["AsyncAntiphon", P], AsyncEventFeed]:
    def iterate(self: "AsyncAntiphon", /, *arguments: P.args, **named: P.kwargs) -> AsyncEventFeed:
        reading = build(*arguments, **named)
        return AsyncEventFeed(self._read(reading), reading)

    return documented(iterate, build)


def _stream(build: Callable[P, FeedFollowing]) -> Callable[Concatenate["AsyncAntiphon", P], AsyncEventFeed]:
    def iterate(self: "AsyncAntiphon", /, *arguments: P.args, **named: P.kwargs) -> AsyncEventFeed:
        following = build(*arguments, **named)
        return AsyncEventFeed(self._follow(following), following)

    return documented(iterate, build)


class AsyncAntiphon:
    """A client of session-api, for one event loop of asyncio.

    `base_url` and `api_key` default to ANTIPHON_API_URL and ANTIPHON_API_KEY. `timeout` is in seconds, for
    all attempts of a call together, `attempt_timeout` for each.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        attempt_timeout: float = 15.0,
        max_retries: int = 8,
        max_connections: int = 20,
        max_streams: int = 100,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._target = target(base_url, api_key)
        self._policy = Policy(
            timeout_seconds=timeout, attempt_seconds=attempt_timeout, max_retries=max_retries
        )
        limits = Connections(calls=max_connections, streams=max_streams)
        verify = ssl_context or (transport is None and tls_context(self._target))
        self._http = httpx.AsyncClient(**options(self._target, limits.calls, verify, transport))
        self._streams = httpx.AsyncClient(**options(self._target, limits.streams, verify, transport))
        self.sessions = Sessions(self)
        self.flows = Flows(self)
        self.keys = Keys(self)
        self.analytics = Analytics(self)
        self.audit = Audit(self)

    async def aclose(self) -> None:
        """Close all connections; the client cannot be used after it."""
        await self._http.aclose()
        await self._streams.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        raw: tuple[str, bytes] | None = None,
    ) -> Any:
        """Send any request and return its JSON, for operations that this version has no method for.

        `raw` is the media type and the bytes of a body that is not JSON. The request is repeated after errors
        if it is a GET, or has an idempotency key.
        """
        call = any_call(
            method,
            path,
            body,
            params=params,
            idempotency_key=idempotency_key,
            timeout=timeout,
            headers=headers,
            raw=raw,
        )
        return await self._run(call)

    events = _read(events)
    stream_events = _stream(stream_events)

    async def export_events(self, **options: Unpack[ExportOptions]) -> AsyncGenerator[SessionEvent, None]:
        """Iterate over all committed events of the tenant, up to the newest of now, or those of the options.

        Each comes once, in order within its session, also when connections break. Raises ApiError when the
        server refuses it, and the last error after `give_up_seconds` of failures.
        """
        async with aclosing(self.export_batches(**options)) as batches:
            async for batch in batches:
                for event in batch.events:
                    yield event

    def export_batches(self, **options: Unpack[ExportOptions]) -> AsyncGenerator[ExportedBatch, None]:
        """Iterate over the same in batches; after each the export can be resumed, also by another process."""
        return self._follow(exporting(**options))

    def __repr__(self) -> str:
        return f"<AsyncAntiphon {self._target.base_url}>"

    async def _run(self, call: Call[T]) -> T:
        steps = attempts(call, self._policy, time.monotonic)
        outcome: Outcome | None = None
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Send):
                    outcome = await self._send(step)
                else:
                    outcome = None
                    await asyncio.sleep(step.seconds)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, send: Send) -> Outcome:
        require_open(self._http)
        body = Body(time.monotonic, send.seconds)
        try:
            async with (
                asyncio.timeout(send.seconds + GRACE_SECONDS),
                self._http.stream(**request_of(self._target, send)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
        except (httpx.HTTPError, AntiphonError, TimeoutError) as error:
            return translated(error, self._target)
        return reply_of(response, body.whole(), self._target)

    async def _pages(self, listing: Listing[T]) -> AsyncGenerator[T, None]:
        paging = listing.first()
        while paging.call is not None:
            for item in paging.take(await self._run(paging.call)):
                yield item

    async def _read(self, reading: FeedReading) -> AsyncGenerator[SessionEvent, None]:
        while reading.call is not None:
            for event in reading.take(await self._run(reading.call)):
                yield event

    async def _follow(self, following: Resuming[T]) -> AsyncGenerator[T, None]:
        while not following.ended:
            try:
                async with aclosing(self._connection(following)) as events:
                    async for event in events:
                        yield event
            except httpx.PoolTimeout as error:
                raise translated(error, self._target) from error
            except (httpx.HTTPError, Timeout) as error:
                following.broke(translated(error, self._target))
            if not following.ended:
                await asyncio.sleep(following.pause())

    async def _connection(self, following: Resuming[T]) -> AsyncGenerator[T, None]:
        require_open(self._streams)
        request = request_of(self._target, Send(following.call(), WATCHDOG_SECONDS))
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(WATCHDOG_SECONDS + GRACE_SECONDS):  # until the headers are there
                    response = await stack.enter_async_context(self._streams.stream(**request))
            except TimeoutError as error:
                raise translated(error, self._target) from error
            if following.opened(reply_of(response, b"", self._target)):
                async for chunk in response.aiter_bytes():
                    for event in following.received(chunk):
                        yield event
                    if not following.reading:
                        return
                following.closed()
            elif not following.ended:
                body = Body(time.monotonic, self._policy.attempt_seconds)
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
                following.refused(reply_of(response, body.whole(), self._target))


class Resource:
    """A part of the client."""

    def __init__(self, client: AsyncAntiphon) -> None:
        self._client = client


def _method(build: Callable[P, Call[T]]) -> Callable[Concatenate[Resource, P], Coroutine[None, None, T]]:
    def send(self: Resource, /, *arguments: P.args, **named: P.kwargs) -> Coroutine[None, None, T]:
        return self._client._run(build(*arguments, **named))

    return documented(send, build)


def _pages(build: Callable[P, Listing[T]]) -> Callable[Concatenate[Resource, P], AsyncGenerator[T, None]]:
    def iterate(self: Resource, /, *arguments: P.args, **named: P.kwargs) -> AsyncGenerator[T, None]:
        return self._client._pages(build(*arguments, **named))

    return documented(iterate, build)


class Sessions(Resource):
    """Sessions: `client.sessions`."""

    create = _method(sessions.create)
    get = _method(sessions.get)
    list = _pages(sessions.list_sessions)
    turns = _pages(sessions.turns)
    timeline = _pages(sessions.timeline)
    events = _pages(sessions.events)
    end = _method(sessions.end)
    token = _method(sessions.token)

    def stream(
        self, session_id: str, *, after: int = 0, give_up_seconds: float = GIVE_UP_SECONDS
    ) -> AsyncGenerator[SessionEvent, None]:
        """Iterate over a session's events after a sequence, past and live, to its last.

        A broken connection is made again, and the stream resumes after the last event received. Raises
        ApiError when the server refuses it, and the last error after `give_up_seconds` of failures.
        """
        following = Following(session_id, after, time.monotonic, give_up=give_up_seconds)
        return self._client._follow(following)


class Flows(Resource):
    """Flows: `client.flows`."""

    list = _pages(flows.list_flows)
    publish = _method(flows.publish)
    get = _method(flows.get)
    revisions = _pages(flows.revisions)
    diff = _method(flows.diff)
    try_out = _method(flows.try_out)


class Analytics(Resource):
    """Figures of many sessions: `client.analytics`."""

    daily = _pages(analytics.daily)
    usage = _pages(analytics.usage)


class Keys(Resource):
    """API keys: `client.keys`."""

    create = _method(keys.create)
    get = _method(keys.get)
    list = _pages(keys.list_keys)
    rotate = _method(keys.rotate)
    revoke = _method(keys.revoke)


class Audit(Resource):
    """Who changed keys and flows, and what was erased: `client.audit`."""

    list = _pages(audit.list_audit)
