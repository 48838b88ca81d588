"""Open event streams: counted per key and tenant, and ended when their key is revoked or expires."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from antiphon.chassis.background import BackgroundTask
from antiphon.contracts.api_keys import ApiKey
from antiphon.session_api import metrics
from antiphon.session_api.auth import ended_during_request
from antiphon.session_api.keys.records import Keys
from antiphon.session_api.problems import Problem

CHECK_SECONDS = 2.0
GRACE_SECONDS = 5.0  # for a stream to end by itself; one whose client does not read is cut off then
RETRY_SECONDS = 10

log = structlog.get_logger(__name__)


class OpenStream:
    """One open stream, which ends when its key has ended or the server stops."""

    __slots__ = ("_wakes", "deadline", "digest", "stopping")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.stopping = False
        self.deadline = asyncio.timeout(None)
        self._wakes: list[Callable[[], None]] = []

    def add(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the stream is to end."""
        self._wakes.append(wake)

    def remove(self, wake: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._wakes.remove(wake)

    def end(self, grace_seconds: float | None) -> None:
        """Let the stream end; cut it off after the grace, if there is one."""
        if not self.stopping:
            self.stopping = True
            for wake in tuple(self._wakes):
                wake()
            if grace_seconds is not None:
                self.deadline.reschedule(asyncio.get_running_loop().time() + grace_seconds)


class Streams:
    """The open streams of this replica; limits of 0 are none."""

    def __init__(
        self,
        keys: Keys,
        stopping: asyncio.Event,
        *,
        per_key: int,
        per_tenant: int,
        check_seconds: float = CHECK_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._keys = keys
        self._stopping = stopping
        self.per_key = per_key
        self._per_tenant = per_tenant
        self._check_seconds = check_seconds
        self._grace_seconds = grace_seconds
        self._open: set[OpenStream] = set()
        self._of_keys: Counter[str] = Counter()
        self._of_tenants: Counter[str] = Counter()
        self._watch: BackgroundTask | None = None
        self._watching = False
        self._unwatch = metrics.streams.watch(self.__len__)

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def opened(self, digest: str, key: ApiKey) -> AsyncIterator[OpenStream]:
        """Count one stream while it is open; what runs inside is cut off some time after the key's end.

        Raises Problem 429 when there are too many.
        """
        own = key.limits.streams if key.limits is not None else None
        self._require(self._of_keys[digest], self.per_key if own is None else own, "API key")
        self._require(self._of_tenants[key.tenant], self._per_tenant, "tenant")
        stream = OpenStream(digest)
        self._open.add(stream)
        self._of_keys[digest] += 1
        self._of_tenants[key.tenant] += 1
        try:
            self._start_watch()
            async with stream.deadline:
                yield stream
        except TimeoutError:
            if not stream.deadline.expired():
                raise
            log.info("stream.cut_off", key_sha256=digest)
        finally:
            self._open.discard(stream)
            _release(self._of_keys, digest)
            _release(self._of_tenants, key.tenant)

    async def close(self) -> None:
        """Stop watching the keys."""
        self._unwatch()
        if self._watch is not None:
            await self._watch.close()

    def _require(self, count: int, limit: int, whose: str) -> None:
        if limit and count >= limit:
            raise Problem(
                429,
                "quota-exceeded",
                f"The {whose} has {count} open event streams; close one first.",
                retry_after_seconds=RETRY_SECONDS,
                quota="streams",
                limit=limit,
            )

    def _start_watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._watch = BackgroundTask(self._end_streams, name="streams of keys")

    async def _end_streams(self) -> None:
        """End the streams of keys that have ended, and all when the server stops, until none is open."""
        while self._open:
            try:
                async with asyncio.timeout(self._check_seconds):
                    await self._stopping.wait()
            except TimeoutError:
                self._end_invalid()
            else:
                for stream in self._open:
                    stream.end(None)
                break
        self._watching = False

    def _end_invalid(self) -> None:
        ended = {digest for digest in self._of_keys if not self._keys.usable(digest)}
        for stream in self._open if ended else ():
            if stream.digest in ended:
                stream.end(self._grace_seconds)


def _release(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]


class CountedResponse(Response):
    """A response that is counted as an open stream from before it is made until it is sent."""

    def __init__(
        self, streams: Streams, digest: str, key: ApiKey, make: Callable[[OpenStream], Awaitable[Response]]
    ) -> None:
        super().__init__()
        self._streams = streams
        self._digest = digest
        self._key = key
        self._make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make and send the response.

        Raises Problem: 429 when there are too many streams, 401 when the key ends before it is made.
        """
        response = None
        async with self._streams.opened(self._digest, self._key) as stream:
            response = await self._make(stream)
            await response(scope, receive, send)
        if response is None:  # cut off
            raise ended_during_request()
