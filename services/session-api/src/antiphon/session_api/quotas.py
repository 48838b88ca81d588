"""How many sessions of a tenant may run at the same time, and the limits of each request of a key."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.database import Database
from antiphon.contracts.api_keys import ApiKey
from antiphon.contracts.session import TERMINAL, Status
from antiphon.session_api.limits import RateLimit, Standing, headers_of, rate_limited
from antiphon.session_api.problems import Problem

COUNT_SECONDS = 3.0  # after which the sessions of a tenant are counted again
COUNT_DEADLINE_SECONDS = 10.0
FIRST_COUNT_SECONDS = 0.5  # that a create waits for the first count of its tenant
RECENT_SECONDS = 600.0  # that a session counts which is not in the views yet
RETRY_SECONDS = 5
TENANTS = 10_000  # whose counts are cached
CREATE_PATH = "/v1/sessions"
TEST_PATH = "/test-audio"  # the end of one: it creates a session too
RUNNING = [status.value for status in Status if status not in TERMINAL]
COUNT = """
select
  (
    select count(*)
    from (select from sessions where tenant = $1 and status = any($2::text[]) limit $3) as running
  ),
  array(select session_id from sessions where tenant = $1 and session_id = any($4::text[]))
"""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Count:
    sessions: int | None = None  # in the views; None is unknown
    recent: dict[str, float] = field(default_factory=dict)  # created here, not seen in the views yet
    counted_at: float = float("-inf")
    counted: asyncio.Event = field(default_factory=asyncio.Event)  # once, or tried to


class SessionQuota:
    """How many sessions of a tenant may run at the same time; 0 is no limit.

    Sessions are counted in the views, in the background and every few seconds; those created here that
    the views do not have yet are added. So a create never waits long for Postgres, and while it is away,
    nothing is refused.
    """

    def __init__(self, database: Database, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._limit = limit
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._due: set[str] = set()
        self._wanted = asyncio.Event()
        self._task: BackgroundTask | None = None

    async def admit(self, tenant: str, session_id: str) -> bool:
        """Count a session that is about to be created; return whether it was not counted before.

        Raises Problem 429 when the tenant has too many.
        """
        if not self._limit:
            return False
        known = self._known(tenant)
        if not known.counted.is_set():
            await self._first_count(known)
        if session_id in known.recent:
            return False
        if known.sessions is not None and known.sessions + len(known.recent) >= self._limit:
            raise Problem(
                429,
                "quota-exceeded",
                f"The tenant has {self._limit} sessions that have not ended; end one first.",
                retry_after_seconds=RETRY_SECONDS,
                quota="sessions",
                limit=self._limit,
            )
        known.recent[session_id] = self._clock()
        if len(known.recent) > self._limit:  # while nothing can be counted
            del known.recent[next(iter(known.recent))]
        return True

    def give_back(self, tenant: str, session_id: str) -> None:
        """Do not count a session that was not created."""
        if (known := self._counts.get(tenant)) is not None:
            known.recent.pop(session_id, None)

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

    async def _first_count(self, known: _Count) -> None:
        try:
            async with asyncio.timeout(FIRST_COUNT_SECONDS):
                await known.counted.wait()
        except TimeoutError:
            log.warning("quota.first_count_late", seconds=FIRST_COUNT_SECONDS)

    async def _count_repeatedly(self) -> None:
        while True:
            await self._wanted.wait()
            while self._due:
                tenant = self._due.pop()
                if (known := self._counts.get(tenant)) is not None:
                    await self._count(tenant, known)
            self._wanted.clear()

    async def _count(self, tenant: str, known: _Count) -> None:
        oldest = self._clock() - RECENT_SECONDS
        try:
            async with asyncio.timeout(COUNT_DEADLINE_SECONDS):
                rows = await self._database.pool.fetch(
                    COUNT, tenant, RUNNING, self._limit, list(known.recent)
                )
            known.sessions, seen = int(rows[0][0]), set(rows[0][1])
            known.recent = {name: at for name, at in known.recent.items() if name not in seen and at > oldest}
        except Exception as error:  # noqa: BLE001 - whatever it is, creating needs no Postgres
            log.warning("quota.not_counted", tenant=tenant, error=repr(error))
            known.sessions = None
        known.counted_at = self._clock()
        known.counted.set()


class LimitsMiddleware:
    """ASGI middleware that applies the limits of an authenticated request, and shows them in headers."""

    def __init__(
        self,
        app: ASGIApp,
        requests: RateLimit,
        of_tenants: RateLimit,
        creates: RateLimit,
    ) -> None:
        self._app = app
        self._requests = requests
        self._of_tenants = of_tenants
        self._creates = creates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises Problem 429.
        """
        key: ApiKey | None = scope.get("state", {}).get("key") if scope["type"] == "http" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        digest: str = scope["state"]["key_digest"]
        path: str = scope["path"]
        creating = scope["method"] == "POST" and (path == CREATE_PATH or path.endswith(TEST_PATH))
        standings = self._admit(digest, key, creating=creating)
        if standings:
            send = _with_headers(send, headers_of(*standings))
        await self._app(scope, receive, send)

    def _admit(self, digest: str, key: ApiKey, *, creating: bool) -> list[Standing]:
        own = key.limits.requests_per_second if key.limits is not None else None
        standings = []
        if (standing := self._requests.hit(digest, own)) is not None:
            standings.append(standing)
            if not standing.allowed:
                raise rate_limited(standing, "The API key sends too many requests.")
        if (standing := self._of_tenants.hit(key.tenant)) is not None:
            standings.append(standing)
            if not standing.allowed:
                raise rate_limited(standing, "The keys of the tenant send too many requests.")
        if creating and (standing := self._creates.hit(key.tenant)) is not None:
            standings.append(standing)
            if not standing.allowed:
                raise rate_limited(standing, "The tenant creates too many sessions.")
        return standings


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
