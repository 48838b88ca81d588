"""The view `timeline`: what a person reads of a session, one row per thing that happened, from start to end.

Lanes: session, participant, caller, agent, tool, media, error. What says the same twice is left out: the
webhooks of LiveKit, transcripts, which are in the turns, and usage.
"""

from collections.abc import Callable
from typing import TypeVar

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events import agent, command, media, participant, session, tool, turn
from antiphon.persistence.projection import Projection, Rows
from antiphon.persistence.projections import timeline_handlers as handle
from antiphon.persistence.projections.timeline_rows import ITEM, SESSION, begins, ends, happened

E = TypeVar("E", bound=Event)
TIMELINE = Projection("timeline", ITEM, SESSION, version=2)


def moment(event: type[E], lane: str, shown: Callable[[E], tuple[str, str | None]]) -> None:
    """Show an event as a thing that takes no time: `shown` returns its title and detail."""

    @TIMELINE.on(event)
    def happens(event: E, at: Envelope, rows: Rows) -> None:
        happened(rows, at, lane, *shown(event))


def start(event: type[E], lane: str, shown: Callable[[E], tuple[str, str, str | None]]) -> None:
    """Show an event as the start of a thing: `shown` returns what starts, its title and detail."""

    @TIMELINE.on(event)
    def starts(event: E, at: Envelope, rows: Rows) -> None:
        what, title, detail = shown(event)
        begins(rows, at, what, lane, title, detail)


def end(event: type[E], shown: Callable[[E], tuple[str, str | None]]) -> None:
    """Show an event as the end of a thing: `shown` returns what ends, and a detail that replaces its own."""

    @TIMELINE.on(event)
    def finishes(event: E, at: Envelope, rows: Rows) -> None:
        ends(rows, at, *shown(event))


start(
    session.SessionRequested,
    "session",
    lambda e: ("session", "Session", f"flow {e.flow_id}" if e.flow_id else f"agent {e.agent_name}"),
)
start(session.SessionAdopted, "session", lambda e: ("session", "Session", f"adopted in room {e.room}"))
moment(
    session.SessionDispatched,
    "session",
    lambda e: (f"Dispatched at attempt {e.attempt}", f"agent {e.agent_name}"),
)
moment(session.SessionDispatchFailed, "error", lambda e: (f"Dispatch attempt {e.attempt} failed", e.reason))
TIMELINE.on(session.SessionClosed, session.SessionFailed)(handle.session_ended)

start(agent.AgentJoined, "agent", lambda e: (f"agent {e.epoch}", f"Agent {e.identity}", f"job {e.job_id}"))
moment(agent.AgentReady, "agent", lambda e: (f"Ready after {e.ready_ms:.0f} ms", e.greeting))
TIMELINE.on(agent.AgentHandedOff)(handle.handed_off)
moment(
    agent.AgentTransferred,
    "agent",
    lambda e: (f"Transfer to {e.person}" + (" failed" if e.status == "failed" else ""), e.detail or e.reason),
)
moment(agent.AgentError, "error", lambda e: (f"{e.source}: {e.kind}", e.message))
TIMELINE.on(agent.AgentLeft, agent.AgentLost)(handle.left)
TIMELINE.on(agent.AgentStateChanged, agent.UserStateChanged)(handle.state_changed)
TIMELINE.on(media.Reconnecting, media.Reconnected)(handle.connection_changed)
TIMELINE.on(turn.TurnStarted)(handle.turn_started)
TIMELINE.on(turn.TurnSaved)(handle.turn_saved)
start(tool.ToolStarted, "tool", lambda e: (f"tool {e.call_id}", e.name, e.arguments))
TIMELINE.on(tool.ToolCompleted)(handle.tool_completed)

start(
    participant.ParticipantConnected,
    "participant",
    lambda e: (f"participant {e.sid}", e.name or e.identity, e.kind.lower()),
)
end(participant.ParticipantDisconnected, lambda e: (f"participant {e.sid}", e.reason and f"left: {e.reason}"))
# Of tracks from before the agent joined, the time in which it receives them
for track in (media.TrackPublished, media.TrackSubscribed):
    start(track, "media", lambda e: (f"track {e.track_sid}", f"{handle.source(e)} of {e.identity}", e.name))
for gone in (media.TrackUnpublished, media.TrackUnsubscribed):
    end(gone, lambda e: (f"track {e.track_sid}", None))
moment(media.TrackSubscriptionFailed, "error", lambda e: (f"Track of {e.identity} is not received", e.error))
moment(media.SipDtmfReceived, "caller", lambda e: (f"Key {e.digit}", None))
moment(media.FileReceived, "caller", lambda e: (f"File {e.name}", e.mime_type))
moment(media.RecordingSaved, "media", lambda e: ("Recording saved", e.object_key))

start(command.CommandRequested, "session", lambda e: (f"command {e.command_id}", f"Command {e.verb}", None))
end(command.CommandApplied, lambda e: (f"command {e.command_id}", "applied"))
end(command.CommandRejected, lambda e: (f"command {e.command_id}", f"rejected: {e.reason}"))
