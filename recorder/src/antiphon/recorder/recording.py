"""The record of one job, from its start to the end of its session."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, JobContext

from antiphon.chassis.bus import BusError
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError, AgentLeft
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionAdopted,
    SessionClosed,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.events.usage import ModelUsage
from antiphon.contracts.ids import adopted_id, closed_id
from antiphon.recorder import livekit_internals, presence
from antiphon.recorder.conversation import Conversation
from antiphon.recorder.ending import (
    REPLACED,
    AttachedSession,
    Closing,
    EndSignals,
    SessionEnd,
    close_reason,
)
from antiphon.recorder.identity import agent_joined
from antiphon.recorder.limits import Limits, end_call
from antiphon.recorder.outbox import BusLink, Outbox, SessionWriter, utc_now
from antiphon.recorder.readiness import Readiness
from antiphon.recorder.room import RoomRecorder
from antiphon.recorder.taps import ErrorGuard, tap_aclose, tap_hang_up, tap_session, tap_shutdown

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
        epoch: str | None = None,
        adopted: SessionAdopted | None = None,
        notify_room: bool = True,
        limited: bool = False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.guard = ErrorGuard()
        self.link = link
        self.refused: str | None = None  # why the job is not recorded
        self._ctx = ctx
        self._outbox = outbox
        self._writer = writer
        self._epoch = epoch or ctx.job.id
        self._limited = limited  # by what the request of the session says
        self._adopted = adopted  # None for a session that a client requested
        self._started = time.monotonic()
        self._room = RoomRecorder(ctx.room, self._write, self.guard)
        self._sessions: list[AttachedSession] = []
        self._readiness = Readiness(
            ctx.room, self._write, session_id=writer.session_id, now=now, notify_room=notify_room
        )
        self._end = EndSignals()
        self._untap: list[Callable[[], None]] = []
        self._closed = False
        self._left: Closing | None = None  # the agent left, and the session goes on
        self._others: set[str] = set()  # the agents that were in the room then
        self._on_detach: Callable[[], object] | None = None
        self._marking: asyncio.Task[None] | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._limits: Limits | None = None

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
        """Whether the record is closed: `finish` writes nothing more to it."""
        return self._finishing is not None and self._finishing.done()

    @property
    def closed(self) -> bool:
        """Whether the record is closed: nothing more is written to it."""
        return self._closed

    @property
    def failure(self) -> str | None:
        """The error that made the agent unable to serve, if any."""
        errors = (session.conversation.unrecoverable_error for session in self._sessions)
        return self._end.failure or next(filter(None, errors), None)

    @property
    def replaced(self) -> bool:
        """Whether a newer job serves the session."""
        return self._room.disconnect_reason == REPLACED

    @property
    def session_continues(self) -> bool:
        """Whether another agent serves the session, so that its room must stay."""
        return self.replaced or self._left is not None or self.refused is not None

    @property
    def closes_room(self) -> bool:
        """Whether the recorder deletes the room, as a limit of the session is reached."""
        return self._end.limit is not None

    def start(self) -> None:
        """Start publishing, and record the job and its room from now on."""
        self._outbox.start()
        self.guard.wrap("check", livekit_internals.check)(self._ctx)
        self.guard.wrap("adopted", self._write_adopted)()
        self.guard.wrap("joined", lambda: self._write(agent_joined(self._ctx, self._epoch)))()
        self.guard.wrap("killed", self._note_killed)()
        self.guard.wrap("room", self._room.attach)()
        self.guard.wrap("mark", self._mark_when_connected)()
        self.guard.wrap("job", self._tap_job)()
        if self._limited and self.link.enabled:
            self._limits = Limits(self.link, self._ctx.room, self._writer, end=self._end_at_limit)
            self._limits.start()

    def refuse(self, reason: str) -> None:
        """Record nothing; in place of `start`."""
        self.refused = reason
        self._closed = True

    async def _end_at_limit(self, reason: CloseReason) -> None:
        if not self._closed:
            self._end.limit = reason
            sessions = [attached.session for attached in self._sessions if attached.closed is None]
            await end_call(self._ctx, reason, sessions=sessions, guard=self.guard, finish=self.finish)

    def _tap_job(self) -> None:
        self._untap.append(tap_shutdown(self._ctx, self._end.on_shutdown))
        self._untap.append(tap_hang_up(self._ctx, self._end.on_hang_up))

    def _write_adopted(self) -> None:
        if self._adopted is not None:
            self._writer.write(self._adopted, id=adopted_id(self.session_id))

    @property
    def _killed_key(self) -> str:
        return f"left:{self._epoch}"

    def _note_killed(self) -> None:
        # published, if this process is killed, by the one that adopts its journal
        self._note(self._killed_key, self._agent_left("killed", FaultSide.AGENT))

    def _mark_when_connected(self) -> None:
        room = self._ctx.room

        def on_connection_state(state: int) -> None:
            if state == rtc.ConnectionState.CONN_CONNECTED and self._marking is None:
                marking = presence.mark(room, self.session_id)
                self._marking = asyncio.create_task(marking, name="mark-agent")

        marked = self.guard.wrap("mark", on_connection_state)
        room.on("connection_state_changed", marked)
        self._on_detach = partial(room.off, "connection_state_changed", marked)
        if room.isconnected():
            on_connection_state(rtc.ConnectionState.CONN_CONNECTED)

    def detach(self) -> None:
        """Leave the room's emitter, once another recording of the job has taken over."""
        self.guard.wrap("detach", self._room.detach)()
        if self._on_detach is not None:
            self.guard.wrap("detach", self._on_detach)()
            self._on_detach = None

    def attach(self, session: AgentSession[Any], *, greeting: str = "") -> None:
        """Record a session from now on, beside those attached before; call it before the session starts.

        `greeting` is the text for `agent.ready`, if it is known before it is spoken.
        """
        self._readiness.greeting = greeting
        self.guard.wrap("attach", self._attach)(session)

    def _attach(self, session: AgentSession[Any]) -> None:
        wrap = self.guard.wrap
        if any(known.session is session for known in self._sessions):
            log.warning("recorder.session_recorded_already", extra={"session_id": self.session_id})
            return
        number = len(self._sessions) + 1
        conversation = Conversation(
            session,
            self._write,
            self._note,
            self.guard,
            # turns are numbered per epoch, and each session counts its own
            epoch=self._epoch if number == 1 else f"{self._epoch}.{number}",
            on_greeting=wrap("greeting", self.ready),
        )
        attached = AttachedSession(session, conversation)
        self._sessions.append(attached)
        on_event = wrap("session", partial(self._on_session_event, attached))
        self._untap.append(tap_session(session, on_event))
        self._untap.append(tap_aclose(session, wrap("aclose", attached.on_aclose)))

    def set_request(self, requested_at: datetime, traceparent: str | None) -> None:
        """Set when the session was requested, and the trace that events from now on belong to."""
        self._readiness.requested_at = requested_at
        self._writer.traceparent = traceparent

    def ready(self, greeting: str) -> None:
        """Announce in the record and in the room that the agent has greeted; once."""
        if not self._closed:
            self.guard.wrap("ready", self._readiness.announce)(greeting)

    def failed(self, error: Exception, reason: FailureReason | None = None) -> None:
        """Record that the job cannot serve its session, which fails if there is a reason, and else closes."""
        self._end.failed_for = reason
        self._end.failure = message = str(error) or repr(error)
        kind = type(error).__name__
        self._write(AgentError(source="agent-worker", kind=kind, recoverable=False, message=message))

    def write(self, event: Event) -> None:
        """Record an event of the agent's own, as `AgentError` or `AgentTransferred`."""
        self.guard.wrap("write", self._write)(event)

    def ends_for(self, reason: CloseReason, detail: str | None = None) -> None:
        """Give the reason for which the agent hangs up, or its caller leaves; the first one is recorded."""
        self._end.intent = self._end.intent or (reason, FaultSide.NONE, detail)

    def hands_off_for(self, reason: str) -> None:
        """Give the reason of the hand-off to another agent that comes next."""
        for attached in self._sessions:
            attached.conversation.handoff_reason = reason

    async def finish(self, timeout_seconds: float = FLUSH_SECONDS) -> bool:
        """Close the record and publish the rest of it; may be called several times.

        Returns whether every event of the job so far is published: False if one was refused or lost, or is
        still in the journal, from which another process publishes it.
        """
        if self._finishing is None:
            self._finishing = asyncio.create_task(self._finish(timeout_seconds), name="finish-record")
        await asyncio.shield(self._finishing)
        # the journal stays open: the job may record another session
        drained = await self._outbox.flush(timeout_seconds if self.link.enabled else 0)
        if not drained:
            log.warning("recorder.left_in_journal", extra={"session_id": self.session_id})
        return drained and self._outbox.intact

    async def stop_limits(self) -> None:
        """Enforce the limits of the session no longer; a call that is being ended is ended."""
        if self._limits is not None:
            await self._limits.stop()

    async def _finish(self, timeout_seconds: float) -> None:
        self.guard.wrap("close", self._close)()
        await self._readiness.wait_sent(timeout_seconds)
        if self._left is not None:
            await self._close_after_the_others(self._left, timeout_seconds)

    async def _close_after_the_others(self, closing: Closing, timeout_seconds: float) -> None:
        # Agents that leave together all saw another in the room. The last one in the log closes the session.
        try:
            async with asyncio.timeout(timeout_seconds):
                if not await self._outbox.flush(timeout_seconds):
                    return
                bus = await self.link.bus()
                remaining = await presence.agents_in(bus, self._writer.tenant, self.session_id)
        except (TimeoutError, BusError) as error:
            log.warning(
                "recorder.others_unknown", extra={"session_id": self.session_id, "error": repr(error)}
            )
            return
        self._others |= self._other_agents()
        if not remaining & self._others:
            self._left = None
            self._writer.write(self._session_ended(closing), id=closed_id(self.session_id))

    def watch(self, watcher: Callable[[Event, datetime], object]) -> None:
        """Call a function with each event that is written, and its time; what it raises is logged."""
        self._writer.watchers.append(self.guard.wrap("watcher", watcher))

    def _write(self, event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        if not self._closed:
            self._writer.write(event, at=at, settles=settles)
            if isinstance(event, TurnSaved):
                self.guard.wrap("killed", self._note_killed)()

    def _note(self, key: str, event: Event, *, at: float | None = None) -> None:
        if not self._closed:
            self._writer.note(key, event, at=at)

    def _on_session_event(self, attached: AttachedSession, name: str, event: Any) -> None:
        attached.conversation.handle(name, event)
        if name == "close":
            attached.conversation.close()
            attached.closed = event
            if all(session.closed is not None for session in self._sessions):
                self._close()

    def _close(self) -> None:
        if self._closed:
            return
        for session in self._sessions:
            session.conversation.close()
        self._room.close()
        closing = self._closing()
        self._others = self._other_agents()
        if self.replaced:
            self._write(self._agent_left("replaced", FaultSide.NONE), settles=self._killed_key)
        elif self._others and presence.has_caller(self._ctx.room):
            self._left = closing
            self._write(self._agent_left(*closing), settles=self._killed_key)
        else:
            ended = self._session_ended(closing)
            self._writer.write(ended, id=closed_id(self.session_id), settles=self._killed_key)
        self._closed = True
        while self._untap:
            self._untap.pop()()

    def _other_agents(self) -> set[str]:
        room = self._ctx.room
        if self._room.disconnect_reason is not None or not room.isconnected():
            return set()
        return presence.other_agents(room, self.session_id)

    def _closing(self) -> Closing:
        # the session attached first is the one that the caller talks to
        attached = next((session for session in self._sessions if session.closed is not None), None)
        event = attached.closed if attached is not None else None
        by_error = event is not None and event.reason.value == "error"
        return close_reason(
            SessionEnd(
                session_reason=event.reason.value if event else None,
                room_reason=self._room.disconnect_reason,
                departure_reason=self._room.last_departure,
                participant_joined=bool(self._room.participants),
                hung_up=self._end.hung_up,
                limit=self._end.limit,
                intent=self._end.intent,
                ended_by_code=self._end.shutdown_called or (attached is not None and attached.closed_by_code),
                failure=self.failure if by_error else self._end.failure,
            )
        )

    def _session_ended(self, closing: Closing) -> Event:
        reason, fault, detail = closing
        return self._end.session_failed() or SessionClosed(
            reason=reason,
            fault=fault,
            detail=detail,
            duration_seconds=time.monotonic() - self._started,
            turns=self._turns(),
            participants=list(self._room.participants.values()),
            usage=self._usage(),
        )

    def _agent_left(self, reason: str, fault: FaultSide, detail: str | None = None) -> AgentLeft:
        return AgentLeft(
            job_id=self._ctx.job.id,
            epoch=self._epoch,
            reason=reason,
            fault=fault,
            detail=detail,
            duration_seconds=time.monotonic() - self._started,
            turns=self._turns(),
            usage=self._usage(),
        )

    def _turns(self) -> int:
        return sum(session.conversation.turns for session in self._sessions)

    def _usage(self) -> list[ModelUsage]:
        return [model for session in self._sessions for model in session.conversation.usage]
