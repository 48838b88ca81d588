"""Wait until the agent of a session is ready, by its events on the bus; Postgres has no part in it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import msgspec
import structlog
from starlette.requests import Request

from antiphon.chassis.background import end_task
from antiphon.chassis.bus import MISSED, Bus, BusUnavailable, HistoryGap
from antiphon.chassis.database import DatabaseUnavailable
from antiphon.chassis.http.middleware import extend_deadline
from antiphon.chassis.retry import retrying
from antiphon.contracts.envelope import decode
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.session import Session, evolve
from antiphon.contracts.subjects import session_filter
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.events import EventReader
from antiphon.session_api.sessions.lookup import Lookup

DEFAULT_SECONDS = 10
LONGEST_SECONDS = 60
WAITERS = 1000  # at a time; one more gets the state as it is
WAITERS_OF_TENANT = 200
WAITERS_OF_KEY = 100
RETRY_SECONDS = 5
READ_AGAIN_SECONDS = 5.0  # without an event: the replica that answered may have been behind

log = structlog.get_logger(__name__)

_session = msgspec.json.Decoder(Session)


def is_ready(session: Session) -> bool:
    """Return whether the agent has greeted the caller, or is in the room and waits for one to greet.

    Not if each agent of the session has left; sessions from before agents were on record have none.
    """
    if session.agents and all(agent.left_at is not None for agent in session.agents.values()):
        return False
    return session.ready_at is not None or session.agent_state not in (None, "initializing")


def is_settled(session: Session) -> bool:
    """Return whether there is nothing to wait for: the agent is ready, or the session has ended."""
    return session.ended or is_ready(session)


class ReadyWaits:
    """Requests that wait for their agents, each with a subscription and a deadline."""

    def __init__(
        self,
        bus: Bus,
        reader: EventReader,
        lookup: Lookup,
        *,
        stopping: asyncio.Event,
        waiters: int = WAITERS,
        of_tenant: int = WAITERS_OF_TENANT,
        of_key: int = WAITERS_OF_KEY,
    ) -> None:
        self._bus = bus
        self._reader = reader
        self._lookup = lookup
        self._stopping = stopping
        self._waiters = waiters
        self._waiting = 0
        self._of_tenant = of_tenant
        self._of_key = of_key
        self._tenants: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()

    @contextmanager
    def counted(self, digest: str, tenant: str) -> Iterator[None]:
        """Count one wait of a key and its tenant.

        Raises Problem 429 when there are too many.
        """
        _require(self._keys[digest], self._of_key, "API key")
        _require(self._tenants[tenant], self._of_tenant, "tenant")
        self._keys[digest] += 1
        self._tenants[tenant] += 1
        try:
            yield
        finally:
            _release(self._keys, digest)
            _release(self._tenants, tenant)

    async def session(
        self, request: Request, tenant: str, session_id: str, seconds: float
    ) -> tuple[bool, bytes]:
        """Wait as `wait` does; return whether there is no more to wait for, and the session as JSON.

        Raises Problem 404, DatabaseUnavailable, BusUnavailable.
        """
        if not await self._reader.exists(tenant, session_id):  # the stream forgets old sessions
            return _shown(await self._lookup.session(tenant, session_id))
        waited = await self.wait(request, tenant, session_id, seconds)
        try:
            viewed = _shown(await self._lookup.session(tenant, session_id))
        except DatabaseUnavailable:
            if waited is None:
                raise
            viewed = False, b""
        if waited is None or viewed[0]:
            return viewed
        return is_settled(waited), msgspec.json.encode(waited)  # the view is behind, or not there

    async def wait(self, request: Request, tenant: str, session_id: str, seconds: float) -> Session | None:
        """Return the session once it is ready or has ended, or as it is after these seconds.

        The wait also ends when the client disconnects, when the server stops, and at once when too many
        others wait. Returns None when the broker told nothing about the session until then.
        """
        if self._waiting >= self._waiters:
            log.warning("ready.too_many_waiting", session_id=session_id, waiting=self._waiting)
            return None
        extend_deadline(request, seconds)
        newest: list[Session] = []
        retry = retrying(BusUnavailable, HistoryGap)
        tasks = [
            asyncio.create_task(retry(self._follow, tenant, session_id, newest), name="ready: follow"),
            asyncio.create_task(_disconnected(request), name="ready: client"),
            asyncio.create_task(self._stopping.wait(), name="ready: stop"),
        ]
        self._waiting += 1
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            self._waiting -= 1
            await asyncio.gather(*map(end_task, tasks))
        return newest[-1] if newest else None

    async def _follow(self, tenant: str, session_id: str, newest: list[Session]) -> None:
        async with aclosing(self._states(tenant, session_id)) as states:
            async for state in states:
                newest[:] = [state]
                if is_settled(state):
                    return

    async def _states(self, tenant: str, session_id: str) -> AsyncGenerator[Session, None]:
        """Yield the session as the stream has it, and after each event that is published from then on."""
        state: Session | None = None
        subscription = await self._bus.subscribe(session_filter(tenant, session_id))
        try:
            subscription.put_missed()  # what was published before
            while True:
                announcement = await subscription.next(READ_AGAIN_SECONDS) or MISSED
                if announcement is MISSED:
                    state = await self._reader.session(tenant, session_id) or state
                elif state is not None:
                    state = _after(state, announcement[1])
                if state is not None:
                    yield state
        finally:
            await subscription.close()


def _require(count: int, limit: int, whose: str) -> None:
    if count >= limit:
        raise Problem(
            429,
            "quota-exceeded",
            f"The {whose} has {count} requests with wait=ready; leave wait out, or follow the events.",
            retry_after_seconds=RETRY_SECONDS,
            quota="waits",
            limit=limit,
        )


def _release(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]


def _shown(session: bytes) -> tuple[bool, bytes]:
    return is_settled(_session.decode(session)), session


def _after(state: Session, payload: bytes) -> Session:
    try:
        return evolve(state, decode(payload))
    except MalformedEvent:  # ingest will store it as a dead letter
        return state


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
