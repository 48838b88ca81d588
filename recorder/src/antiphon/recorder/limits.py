"""The limits of a requested session: how long its agent waits for the caller, and how long it lasts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, JobContext

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import BusError
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.contracts.event import Family
from antiphon.contracts.events.session import CloseReason
from antiphon.contracts.session import Session
from antiphon.recorder.admission import DELETE_SECONDS, delete_room, session_on
from antiphon.recorder.outbox import BusLink, SessionWriter, utc_now
from antiphon.recorder.presence import has_caller
from antiphon.recorder.taps import ErrorGuard

log = get_logger(__name__)

NOT_CALLERS = ("agent", "egress", "ingress")
LAST_WORDS_SECONDS = 10.0
END_SECONDS = 5.0  # for the rest of a call's end, once its job ends

EndCall = Callable[[CloseReason], Coroutine[Any, Any, None]]


class Limits:
    """The limits of one session, for as long as its agent is there.

    The caller must come within `ttl_seconds` of the start of the agent's job. `max_duration_seconds` counts
    from the first moment with agent and caller in the room, also for an agent that resumes the session.
    """

    def __init__(
        self,
        link: BusLink,
        room: rtc.Room,
        writer: SessionWriter,
        *,
        end: EndCall,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._link = link
        self._room = room
        self._tenant = writer.tenant
        self._session_id = writer.session_id
        self._end = end
        self._now = now
        self._started = asyncio.get_running_loop().time()
        self._waiting: BackgroundTask | None = None
        self._ending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run in the background until it is stopped."""
        self._waiting = BackgroundTask(self.run, name="limits")

    async def stop(self) -> None:
        """Wait for no limit any more; a call that is being ended is ended, within seconds."""
        if self._waiting is not None:
            await self._waiting.close()
        if self._ending is None:
            return
        await asyncio.wait([self._ending], timeout=END_SECONDS)
        if not self._ending.done():
            self._ending.cancel()  # it deletes the room nevertheless
            await asyncio.wait([self._ending], timeout=DELETE_SECONDS)

    async def run(self) -> None:
        """Read the limits, and end the call at the first that is reached. Returns when there is none."""
        session: Session = await retrying(BusError)(self._read)
        ttl_seconds, max_seconds = session.ttl_seconds, session.max_duration_seconds
        if ttl_seconds is None and max_seconds is None:
            return
        arrived_at = _first_arrival(session)
        if arrived_at is None:
            if not await self._caller_comes(ttl_seconds):
                await self._reached(CloseReason.NO_CALLER, ttl_seconds)
                return
            arrived_at = self._now()
        if max_seconds is not None:
            passed = (self._now() - arrived_at).total_seconds()
            await asyncio.sleep(max(0.0, max_seconds - passed))
            await self._reached(CloseReason.MAX_DURATION, max_seconds)

    async def _read(self) -> Session:
        families = (Family.SESSION, Family.PARTICIPANT)
        return await session_on(await self._link.bus(), self._tenant, self._session_id, families)

    async def _reached(self, reason: CloseReason, seconds: int | None) -> None:
        extra = {"session_id": self._session_id, "reason": reason.value, "seconds": seconds}
        log.info("recorder.limit_reached", extra=extra)
        self._ending = asyncio.create_task(self._end(reason), name="end-call")
        await asyncio.shield(self._ending)  # the end of the job ends only the waiting

    async def _caller_comes(self, ttl_seconds: int | None) -> bool:
        came = asyncio.Event()

        def look(*_: object) -> None:
            if has_caller(self._room):
                came.set()

        self._room.on("participant_connected", look)
        self._room.on("connection_state_changed", look)
        try:
            look()
            async with asyncio.timeout_at(None if ttl_seconds is None else self._started + ttl_seconds):
                await came.wait()
        except TimeoutError:
            return False
        finally:
            self._room.off("participant_connected", look)
            self._room.off("connection_state_changed", look)
        return True


def _first_arrival(session: Session) -> datetime | None:
    """Return when the first caller was in the room with an agent, which wrote it down."""
    callers = (known for known in session.participants.values() if known.kind not in NOT_CALLERS)
    return min((caller.joined_at for caller in callers), default=None)


async def end_call(
    ctx: JobContext,
    reason: CloseReason,
    *,
    sessions: Sequence[AgentSession[Any]],
    guard: ErrorGuard,
    finish: Callable[[], Awaitable[object]],
) -> None:
    """End a call in order: the agent finishes its sentence, the record is completed, the room is deleted.

    The room is deleted also when this is cancelled.
    """
    closed: list[asyncio.Event] = []
    for session in sessions:
        closed.append(asyncio.Event())
        session.on("close", partial(_set, closed[-1]))
        guard.wrap("limit", partial(session.shutdown, drain=True))()
    try:
        await _all_closed(ctx, closed)
        await finish()
    finally:
        await delete_room(ctx)
    ctx.shutdown(reason.value)


async def _all_closed(ctx: JobContext, closed: Sequence[asyncio.Event]) -> None:
    try:
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await asyncio.gather(*(event.wait() for event in closed))
    except TimeoutError:
        log.warning("recorder.session_not_drained", extra={"job": ctx.job.id})


def _set(event: asyncio.Event, *_: object) -> None:
    event.set()
