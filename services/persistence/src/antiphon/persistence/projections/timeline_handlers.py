"""The functions of the view `timeline` for events that take more than a line."""

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import (
    AgentHandedOff,
    AgentLeft,
    AgentLost,
    AgentStateChanged,
    UserStateChanged,
)
from antiphon.contracts.events.media import Reconnected, Reconnecting, TrackEvent
from antiphon.contracts.events.session import SessionClosed, SessionFailed
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.ids import epoch_of
from antiphon.persistence.projection import Rows
from antiphon.persistence.projections.timeline_rows import ITEM, all_end, begins, changed, ends, happened

SHOWN_STATES = {"speaking", "thinking", "away"}


def source(track: TrackEvent) -> str:
    """Return what a track is of, like `microphone`."""
    return track.source.lower().removeprefix("source_")


def left(event: AgentLeft | AgentLost, at: Envelope, rows: Rows) -> None:
    """End an agent's stay, and the states that it and its caller were in."""
    if isinstance(event, AgentLeft):
        epoch, reason = event.epoch, event.reason
    else:
        epoch, reason = event.job_id, "lost"
    ends(rows, at, f"agent {epoch}", f"job {event.job_id}, left: {reason}")
    for what in ("agent state", "caller state", "in charge"):
        ends(rows, at, f"{what} {epoch}")
    if reason in ("lost", "killed"):
        happened(rows, at, "error", f"Agent {reason}", event.detail)


def handed_off(event: AgentHandedOff, at: Envelope, rows: Rows) -> None:
    """Show the time in which an agent of the flow is in charge of the conversation."""
    what = f"in charge {epoch_of(at.id, at.subject)}"
    ends(rows, at, what)
    begins(rows, at, what, "agent", f"{event.from_agent or 'start'} → {event.to_agent}", event.reason)


def state_changed(event: AgentStateChanged | UserStateChanged, at: Envelope, rows: Rows) -> None:
    """Show the time in which an agent speaks or thinks, and a caller speaks or is away."""
    who = "agent" if isinstance(event, AgentStateChanged) else "caller"
    what = f"{who} state {epoch_of(at.id, at.subject)}"
    ends(rows, at, what)
    if event.new_state in SHOWN_STATES:
        begins(rows, at, what, who, event.new_state.capitalize())


def connection_changed(event: Reconnecting | Reconnected, at: Envelope, rows: Rows) -> None:
    """Show the time in which an agent has no connection to the room."""
    what = f"reconnecting {epoch_of(at.id, at.subject)}"
    if isinstance(event, Reconnecting):
        begins(rows, at, what, "media", "Agent reconnecting")
    else:
        ends(rows, at, what)


def turn_started(event: TurnStarted, at: Envelope, rows: Rows) -> None:
    """Show what the caller said, and the answer, which goes on until it is saved."""
    item = f"turn {event.turn} {event.epoch}"
    if rows.find(ITEM, at.subject, item) is None:
        if event.user_text:
            happened(rows, at, "caller", f"Turn {event.turn}", event.user_text)
        begins(rows, at, item, "agent", f"Turn {event.turn} of {event.agent_id}", part=1, item=item)


def turn_saved(event: TurnSaved, at: Envelope, rows: Rows) -> None:
    """End an answer; a turn without a start has both here, and the last one saved is shown."""
    item = f"turn {event.turn} {event.epoch or ''}"
    title = f"Turn {event.turn} of {event.agent_id}"
    marks = [mark for mark in ("interrupted", "recovered") if getattr(event, mark)]
    text = " ".join(filter(None, [event.assistant_text, f"({', '.join(marks)})" if marks else ""]))
    known = rows.find(ITEM, at.subject, item)
    if known is None:
        if event.user_text:
            happened(rows, at, "caller", f"Turn {event.turn}", event.user_text)
        happened(rows, at, "agent", title, text, part=1, item=item)
    elif known["detail"] is None or not event.recovered:
        ends(rows, at, item)
        changed(rows(ITEM, at.subject, item), at, title, text)


def tool_completed(event: ToolCompleted, at: Envelope, rows: Rows) -> None:
    """End a call with its output; one whose start was not seen is shown when it ended."""
    text = f"{event.status}: {event.output}" if event.output else event.status
    if ends(rows, at, f"tool {event.call_id}", text) is None:
        happened(rows, at, "tool", event.name, text)


def session_ended(event: SessionClosed | SessionFailed, at: Envelope, rows: Rows) -> None:
    """End everything that goes on."""
    all_end(rows, at)
    failed = isinstance(event, SessionFailed)
    lane, title = ("error", "Session failed") if failed else ("session", "Session closed")
    happened(rows, at, lane, f"{title}: {event.reason}", event.detail)
