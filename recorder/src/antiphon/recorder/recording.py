"""The record of one job, from its first moment to its last."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from livekit.agents import AgentSession, CloseEvent, JobContext

from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError, AgentReady
from antiphon.contracts.events.session import SessionClosed
from antiphon.recorder import ending
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.guard import Faults
from antiphon.recorder.joined import agent_joined
from antiphon.recorder.outbox import BusLink, Outbox, utc_now
from antiphon.recorder.readiness import AgentStatus, tell_room
from antiphon.recorder.room_events import RoomEvents
from antiphon.recorder.tap import tap_close, tap_session

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 5.0
FRAMEWORK_TASK = "job_task"  # LiveKit's name for the task in which it ends a job


class Recording:
    """Write down what a job does; stay silent once the session is closed."""

    def __init__(
        self, ctx: JobContext, outbox: Outbox, link: BusLink, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.faults = Faults()
        self.greeting = ""  # what the flow greets with, when that is known before it is heard
        self.link = link
        self._ctx = ctx
        self._outbox = outbox
        self._now = now
        self._began = time.monotonic()
        self._waits_since = now()
        self._room = RoomEvents(ctx.room, self._write)
        self._conversation: Conversation | None = None
        self._ready = False
        self._failure: str | None = None
        self._told_to_stop = False
        self._ended_by_framework = False
        self._closed = False
        self._telling: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[bool] | None = None

    @property
    def session_id(self) -> str:
        """The session that is recorded."""
        return self._outbox.session_id

    @property
    def is_ready(self) -> bool:
        """Whether the agent has greeted."""
        return self._ready

    @property
    def finished(self) -> bool:
        """Whether the record is closed and published, or left to the worker."""
        return self._finishing is not None and self._finishing.done()

    @property
    def failure(self) -> str | None:
        """What went wrong for good, if anything did."""
        return self._failure or (self._conversation.fatal if self._conversation else None)

    @property
    def replaced(self) -> bool:
        """Whether a newer job has taken the session over."""
        return self._room.left == ending.REPLACED

    def begin(self) -> None:
        """Start publishing, and record the room from now on."""
        self._outbox.start()
        self.faults.guard("begin", self._begin)()

    def _begin(self) -> None:
        self._write(agent_joined(self._ctx))
        self._room.attach(self.faults)
        shutdown = self._ctx.shutdown

        def told_to_stop(reason: str = "user requested") -> None:
            self._told_to_stop = True
            shutdown(reason)

        vars(self._ctx)["shutdown"] = told_to_stop

    def follow(self, session: AgentSession[Any]) -> None:
        """Record a session from now on; call it before the session starts."""
        guard = self.faults.guard
        self._conversation = Conversation(
            session, self._write, self.faults, greeted=guard("ready", self.ready)
        )
        tap_session(session, guard("session", self._hear))
        tap_close(session, guard("closing", self._closing))

    def belongs_to(self, requested_at: datetime, traceparent: str | None) -> None:
        """Say when the session was requested, and to which trace the events from now on belong."""
        self._waits_since = requested_at
        self._outbox.traceparent = traceparent

    def ready(self, greeting: str) -> None:
        """Say on the log and in the room that the agent has greeted; only the first time counts."""
        if self._ready or self._closed:
            return
        self._ready = True
        greeting = self.greeting or greeting
        waited = self._now() - self._waits_since
        self._write(AgentReady(greeting=greeting, ready_ms=max(0.0, waited.total_seconds() * 1000)))
        status = AgentStatus(
            type=AgentReady.TYPE, session_id=self.session_id, greeting=greeting, timestamp=self._now()
        )
        self._telling = asyncio.create_task(tell_room(self._ctx.room, status), name="agent-status")

    def failed(self, error: Exception) -> None:
        """Record that the job cannot serve its session."""
        self._failure = message = str(error) or repr(error)
        kind = type(error).__name__
        self._write(AgentError(source="agent-worker", kind=kind, recoverable=False, message=message))

    async def finish(self, timeout_seconds: float = FLUSH_SECONDS) -> bool:
        """Close the record and publish what is left of it; once, however often it is called.

        Returns whether all is published; if not, the journal is left for the worker.
        """
        if self._finishing is None:
            self._finishing = asyncio.create_task(self._finish(timeout_seconds), name="finish-record")
        return await asyncio.shield(self._finishing)

    async def _finish(self, timeout_seconds: float) -> bool:
        self.faults.guard("close", self._close)(None)
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=timeout_seconds)
        published = await self._outbox.close(timeout_seconds)
        if not published:
            log.warning("recorder.left_in_journal", session=self.session_id)
        return published

    def _write(self, event: Event, *, at: float | None = None) -> None:
        if not self._closed:
            self._outbox.write(event, at=at)

    def _closing(self, task: str) -> None:
        self._ended_by_framework = task == FRAMEWORK_TASK

    def _hear(self, name: str, event: Any) -> None:
        if self._conversation is not None:
            self._conversation.hear(name, event)
        if name == "close":
            self._close(event)

    def _close(self, event: CloseEvent | None) -> None:
        if self._closed:
            return
        if self._conversation is not None:
            self._conversation.close()
        facts = self._facts(event)
        if not self.replaced:
            self._write(self._session_closed(facts))
        self._closed = True

    def _facts(self, event: CloseEvent | None) -> ending.Facts:
        by_code = event is not None and not self._ended_by_framework
        return ending.Facts(
            session_reason=event.reason.value if event else None,
            room_reason=self._room.left,
            departure_reason=self._room.last_departure,
            anybody_came=bool(self._room.participants),
            told_to_stop=self._told_to_stop or by_code,
            failure=self._failure if event is None or event.reason.value != "error" else self.failure,
        )

    def _session_closed(self, facts: ending.Facts) -> SessionClosed:
        reason, fault, detail = ending.judge(facts)
        conversation = self._conversation
        return SessionClosed(
            reason=reason,
            fault=fault,
            detail=detail,
            duration_seconds=time.monotonic() - self._began,
            turns=conversation.turns if conversation else 0,
            participants=list(self._room.participants.values()),
            usage=conversation.usage if conversation else [],
        )
