"""The record of one job, from its start to the end of its session."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from livekit.agents import AgentSession, CloseEvent, JobContext

from antiphon.chassis.library_log import get_logger
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.session import SessionClosed
from antiphon.recorder import livekit_internals
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.ending import REPLACED, SessionEnd, close_reason
from antiphon.recorder.identity import agent_joined
from antiphon.recorder.outbox import BusLink, Outbox, SessionWriter, utc_now
from antiphon.recorder.readiness import Readiness
from antiphon.recorder.room import RoomRecorder
from antiphon.recorder.taps import ErrorGuard, tap_aclose, tap_session, tap_shutdown

log = get_logger(__name__)

FLUSH_SECONDS = 5.0


class Recording:
    """The record of a job; writes nothing once the session is closed."""

    def __init__(
        self,
        ctx: JobContext,
        outbox: Outbox,
        writer: SessionWriter,
        link: BusLink,
        *,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.guard = ErrorGuard()
        self.link = link
        self._ctx = ctx
        self._outbox = outbox
        self._writer = writer
        self._started = time.monotonic()
        self._room = RoomRecorder(ctx.room, self._write)
        self._conversation: Conversation | None = None
        self._readiness = Readiness(ctx.room, self._write, session_id=writer.session_id, now=now)
        self._end = _EndSignals()
        self._closed = False
        self._finishing: asyncio.Task[bool] | None = None

    @property
    def session_id(self) -> str:
        """The session that is recorded."""
        return self._writer.session_id

    @property
    def is_ready(self) -> bool:
        """Whether the agent has greeted."""
        return self._readiness.announced

    @property
    def finished(self) -> bool:
        """Whether the record is closed and published, or left in the journal."""
        return self._finishing is not None and self._finishing.done()

    @property
    def failure(self) -> str | None:
        """The error that made the agent unable to serve, if any."""
        return self._end.failure or (self._conversation.unrecoverable_error if self._conversation else None)

    @property
    def replaced(self) -> bool:
        """Whether a newer job serves the session."""
        return self._room.disconnect_reason == REPLACED

    def start(self) -> None:
        """Start publishing, and record the job and its room from now on."""
        self._outbox.start()
        self.guard.wrap("check", livekit_internals.check)(self._ctx)
        self.guard.wrap("joined", lambda: self._write(agent_joined(self._ctx)))()
        self.guard.wrap("room", self._room.attach)(self.guard)
        self.guard.wrap("shutdown", tap_shutdown)(self._ctx, self._end.on_shutdown)

    def attach(self, session: AgentSession[Any], *, greeting: str = "") -> None:
        """Record a session from now on; call it before the session starts.

        `greeting` is the text for `agent.ready`, if it is known before it is spoken.
        """
        self._readiness.greeting = greeting
        self.guard.wrap("attach", self._attach)(session)

    def _attach(self, session: AgentSession[Any]) -> None:
        wrap = self.guard.wrap
        self._conversation = Conversation(
            session,
            self._write,
            self._note,
            self.guard,
            epoch=self._ctx.job.id,
            on_greeting=wrap("greeting", self.ready),
        )
        tap_session(session, wrap("session", self._on_session_event))
        tap_aclose(session, wrap("aclose", self._end.on_aclose))

    def set_request(self, requested_at: datetime, traceparent: str | None) -> None:
        """Set when the session was requested, and the trace that events from now on belong to."""
        self._readiness.requested_at = requested_at
        self._writer.traceparent = traceparent

    def ready(self, greeting: str) -> None:
        """Announce in the record and in the room that the agent has greeted; once."""
        if not self._closed:
            self._readiness.announce(greeting)

    def failed(self, error: Exception) -> None:
        """Record that the job cannot serve its session."""
        self._end.failure = message = str(error) or repr(error)
        kind = type(error).__name__
        self._write(AgentError(source="agent-worker", kind=kind, recoverable=False, message=message))

    async def finish(self, timeout_seconds: float = FLUSH_SECONDS) -> bool:
        """Close the record and publish the rest of it; may be called several times.

        Returns whether everything is published; if not, the journal is left to be adopted.
        """
        if self._finishing is None:
            self._finishing = asyncio.create_task(self._finish(timeout_seconds), name="finish-record")
        return await asyncio.shield(self._finishing)

    async def _finish(self, timeout_seconds: float) -> bool:
        self.guard.wrap("close", self._close)(None)
        await self._readiness.wait_sent(timeout_seconds)
        published = await self._outbox.close(timeout_seconds)
        if not published:
            log.warning("recorder.left_in_journal", extra={"session": self.session_id})
        return published

    def _write(self, event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        if not self._closed:
            self._writer.write(event, at=at, settles=settles)

    def _note(self, key: str, event: Event, *, at: float | None = None) -> None:
        if not self._closed:
            self._writer.note(key, event, at=at)

    def _on_session_event(self, name: str, event: Any) -> None:
        if self._conversation is not None:
            self._conversation.handle(name, event)
        if name == "close":
            self._close(event)

    def _close(self, event: CloseEvent | None) -> None:
        if self._closed:
            return
        if self._conversation is not None:
            self._conversation.close()
        if not self.replaced:
            self._write(self._session_closed(event))
        self._closed = True

    def _session_closed(self, event: CloseEvent | None) -> SessionClosed:
        by_code = event is not None and not self._end.closed_by_job_task
        by_error = event is not None and event.reason.value == "error"
        reason, fault, detail = close_reason(
            SessionEnd(
                session_reason=event.reason.value if event else None,
                room_reason=self._room.disconnect_reason,
                departure_reason=self._room.last_departure,
                participant_joined=bool(self._room.participants),
                ended_by_code=self._end.shutdown_called or by_code,
                failure=self.failure if by_error else self._end.failure,
            )
        )
        conversation = self._conversation
        return SessionClosed(
            reason=reason,
            fault=fault,
            detail=detail,
            duration_seconds=time.monotonic() - self._started,
            turns=conversation.turns if conversation else 0,
            participants=list(self._room.participants.values()),
            usage=conversation.usage if conversation else [],
        )


class _EndSignals:
    """The signals during a job that determine why it ended."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.shutdown_called = False
        self.closed_by_job_task = False

    def on_shutdown(self) -> None:
        self.shutdown_called = True

    def on_aclose(self) -> None:
        # LiveKit gives the same reason when code closes a session and when the worker's shutdown does
        self.closed_by_job_task = livekit_internals.in_job_task()
