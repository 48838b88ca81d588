"""How many sessions of a tenant may run at the same time, and the limits of each request of a key."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.database import Database
from antiphon.contracts.api_keys import ApiKey
from antiphon.contracts.session import TERMINAL, Status
from antiphon.session_api.limits import RateLimit, Standing, headers_of, rate_limited
from antiphon.session_api.problems import Problem
from antiphon.session_api.streams import Streams

COUNT_SECONDS = 3.0  # after which the sessions of a tenant are counted again
COUNT_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 5
TENANTS = 10_000  # whose counts are cached
CREATE_PATH = "/v1/sessions"
RUNNING = [status.value for status in Status if status not in TERMINAL]
COUNT = """
select count(*) from (select from sessions where tenant = $1 and status = any($2::text[]) limit $3) as running
"""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Count:
    sessions: int | None = None  # None is unknown
    since: int = 0  # created here after the count began
    counted_at: float = float("-inf")


class SessionQuota:
    """How many sessions of a tenant may run at the same time; 0 is no limit.

    Sessions are counted in the views, in the background and every few seconds; those created here since
    then are added. So a create never waits for Postgres, and while it is away, nothing is refused.
    """

    def __init__(self, database: Database, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._limit = limit
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._due: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: BackgroundTask | None = None

    def admit(self, tenant: str) -> None:
        """Count one create.

        Raises Problem 429 when the tenant has too many sessions.
        """
        if not self._limit:
            return
        known = self._known(tenant)
        if known.sessions is not None and known.sessions + known.since >= self._limit:
            raise Problem(
                429,
                "quota-exceeded",
                f"The tenant has {self._limit} sessions that have not ended; end one first.",
                retry_after_seconds=RETRY_SECONDS,
                quota="sessions",
                limit=self._limit,
            )
        known.since += 1

    async def close(self) -> None:
        """Stop counting."""
        if self._task is not None:
            await self._task.close()

    def _known(self, tenant: str) -> _Count:
        known = self._counts.pop(tenant, None) or _Count()
        self._counts[tenant] = known
        if len(self._counts) > TENANTS:
            del self._counts[next(iter(self._counts))]
        if self._clock() - known.counted_at >= COUNT_SECONDS:
            self._due.add(tenant)
            self._wanted.set()
            if self._task is None:
                self._task = BackgroundTask(self._count_repeatedly, name="count sessions")
        return known

    async def _count_repeatedly(self) -> None:
        while True:
            await self._wanted.wait()
            while self._due:
                tenant = self._due.pop()
                if (known := self._counts.get(tenant)) is not None:
                    await self._count(tenant, known)
            self._wanted.clear()

    async def _count(self, tenant: str, known: _Count) -> None:
        before = known.since
        try:
            async with asyncio.timeout(COUNT_DEADLINE_SECONDS):
                rows = await self._database.pool.fetch(COUNT, tenant, RUNNING, self._limit)
            known.sessions = int(rows[0][0])
            known.since -= before
        except Exception as error:  # noqa: BLE001 - whatever it is, creating needs no Postgres
            log.warning("quota.not_counted", tenant=tenant, error=repr(error))
            known.sessions, known.since = None, 0
        known.counted_at = self._clock()


class LimitsMiddleware:
    """ASGI middleware that applies the limits of an authenticated request, and shows them in headers."""

    def __init__(
        self,
        app: ASGIApp,
        requests: RateLimit,
        creates: RateLimit,
        sessions: SessionQuota,
        streams: Streams,
    ) -> None:
        self._app = app
        self._requests = requests
        self._creates = creates
        self._sessions = sessions
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises Problem 429.
        """
        key: ApiKey | None = scope.get("state", {}).get("key") if scope["type"] == "http" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        digest: str = scope["state"]["key_digest"]
        creating = scope["method"] == "POST" and scope["path"] == CREATE_PATH
        standings = self._admit(digest, key, creating=creating)
        if standings:
            send = _with_headers(send, headers_of(*standings))
        if not _accepts_stream(scope):
            await self._app(scope, receive, send)
            return
        async with self._streams.opened(digest, key) as stream:
            scope["state"]["stream"] = stream
            await self._app(scope, receive, send)

    def _admit(self, digest: str, key: ApiKey, *, creating: bool) -> list[Standing]:
        own = key.limits.requests_per_second if key.limits is not None else None
        standings = []
        if (standing := self._requests.hit(digest, own)) is not None:
            standings.append(standing)
            if not standing.allowed:
                raise rate_limited(standing, "The API key sends too many requests.")
        if creating:
            if (standing := self._creates.hit(key.tenant)) is not None:
                standings.append(standing)
                if not standing.allowed:
                    raise rate_limited(standing, "The tenant creates too many sessions.")
            self._sessions.admit(key.tenant)
        return standings


def _accepts_stream(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"])


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
