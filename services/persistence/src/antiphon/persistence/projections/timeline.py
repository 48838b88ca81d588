"""The view `timeline`: what a person reads of a session, one row per thing that happened, from start to end.

Lanes: session, participant, caller, agent, tool, media, error. What says the same twice is left out: the
webhooks of LiveKit, transcripts, which are in the turns, and usage.
"""

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events import agent, command, media, participant, session, tool, turn
from antiphon.contracts.ids import epoch_of
from antiphon.persistence.projection import Projection, Rows
from antiphon.persistence.projections.timeline_rows import (
    ITEM,
    SESSION,
    all_end,
    begins,
    changed,
    ends,
    happened,
)

TIMELINE = Projection("timeline", ITEM, SESSION)
SHOWN_STATES = {"speaking", "thinking", "away"}


@TIMELINE.on(session.SessionRequested, session.SessionAdopted)
def began(event: session.SessionRequested | session.SessionAdopted, at: Envelope, rows: Rows) -> None:
    """The session, from its first event to its end."""
    if isinstance(event, session.SessionRequested):
        what = f"flow {event.flow_id}" if event.flow_id else f"agent {event.agent_name}"
    else:
        what = f"adopted in room {event.room}"
    begins(rows, at, "session", "session", "Session", what)


@TIMELINE.on(session.SessionDispatched)
def dispatched(event: session.SessionDispatched, at: Envelope, rows: Rows) -> None:
    """The dispatch of the agent; attempts that failed are errors."""
    happened(rows, at, "session", f"Dispatched at attempt {event.attempt}", f"agent {event.agent_name}")


@TIMELINE.on(session.SessionDispatchFailed)
def dispatch_failed(event: session.SessionDispatchFailed, at: Envelope, rows: Rows) -> None:
    """A dispatch that LiveKit refused."""
    happened(rows, at, "error", f"Dispatch attempt {event.attempt} failed", event.reason)


@TIMELINE.on(session.SessionClosed, session.SessionFailed)
def ended(event: session.SessionClosed | session.SessionFailed, at: Envelope, rows: Rows) -> None:
    """The end, with which everything ends that goes on."""
    all_end(rows, at)
    failed = isinstance(event, session.SessionFailed)
    lane, title = ("error", "Session failed") if failed else ("session", "Session closed")
    happened(rows, at, lane, f"{title}: {event.reason}", event.detail)


@TIMELINE.on(agent.AgentJoined)
def joined(event: agent.AgentJoined, at: Envelope, rows: Rows) -> None:
    """An agent, until it leaves."""
    begins(rows, at, f"agent {event.epoch}", "agent", f"Agent {event.identity}", f"job {event.job_id}")


@TIMELINE.on(agent.AgentLeft, agent.AgentLost)
def left(event: agent.AgentLeft | agent.AgentLost, at: Envelope, rows: Rows) -> None:
    """The end of an agent's stay, and of the state that it was in."""
    if isinstance(event, agent.AgentLeft):
        epoch, reason = event.epoch, event.reason
    else:
        epoch, reason = event.job_id, "lost"
    ends(rows, at, f"agent {epoch}", f"job {event.job_id}, left: {reason}")
    for who in ("agent", "caller"):
        ends(rows, at, f"{who} state {epoch}")
    if reason in ("lost", "killed"):
        happened(rows, at, "error", f"Agent {reason}", event.detail)


@TIMELINE.on(agent.AgentReady)
def ready(event: agent.AgentReady, at: Envelope, rows: Rows) -> None:
    """The greeting."""
    happened(rows, at, "agent", f"Ready after {event.ready_ms:.0f} ms", event.greeting)


@TIMELINE.on(agent.AgentStateChanged, agent.UserStateChanged)
def state(event: agent.AgentStateChanged | agent.UserStateChanged, at: Envelope, rows: Rows) -> None:
    """The time in which an agent speaks or thinks, and a caller speaks or is away."""
    who = "agent" if isinstance(event, agent.AgentStateChanged) else "caller"
    what = f"{who} state {epoch_of(at.id, at.subject)}"
    ends(rows, at, what)
    if event.new_state in SHOWN_STATES:
        begins(rows, at, what, who, event.new_state.capitalize())


@TIMELINE.on(agent.AgentHandedOff)
def handed_off(event: agent.AgentHandedOff, at: Envelope, rows: Rows) -> None:
    """The change from one agent of a flow to another."""
    happened(rows, at, "agent", f"{event.from_agent or 'start'} → {event.to_agent}", event.reason)


@TIMELINE.on(agent.AgentError)
def error(event: agent.AgentError, at: Envelope, rows: Rows) -> None:
    """An error of a component."""
    happened(rows, at, "error", f"{event.source}: {event.kind}", event.message)


@TIMELINE.on(turn.TurnStarted)
def turn_started(event: turn.TurnStarted, at: Envelope, rows: Rows) -> None:
    """What the caller said, and the answer, until it is saved."""
    item = f"turn {event.turn} {event.epoch}"
    if rows.find(ITEM, at.subject, item) is None:
        if event.user_text:
            happened(rows, at, "caller", f"Turn {event.turn}", event.user_text)
        begins(rows, at, item, "agent", f"Turn {event.turn} of {event.agent_id}", part=1, item=item)


@TIMELINE.on(turn.TurnSaved)
def turn_saved(event: turn.TurnSaved, at: Envelope, rows: Rows) -> None:
    """The end of an answer; a turn without a start has both here, and the last one saved is shown."""
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


@TIMELINE.on(tool.ToolStarted)
def tool_started(event: tool.ToolStarted, at: Envelope, rows: Rows) -> None:
    """A call of a tool, until it completes."""
    begins(rows, at, f"tool {event.call_id}", "tool", event.name, event.arguments)


@TIMELINE.on(tool.ToolCompleted)
def tool_completed(event: tool.ToolCompleted, at: Envelope, rows: Rows) -> None:
    """The end of a call, with its output."""
    text = f"{event.status}: {event.output}" if event.output else event.status
    if ends(rows, at, f"tool {event.call_id}", text) is None:
        happened(rows, at, "tool", event.name, text)


@TIMELINE.on(participant.ParticipantConnected)
def connected(event: participant.ParticipantConnected, at: Envelope, rows: Rows) -> None:
    """A participant's stay."""
    kind = event.kind.lower()
    begins(rows, at, f"participant {event.sid}", "participant", event.name or event.identity, kind)


@TIMELINE.on(participant.ParticipantDisconnected)
def disconnected(event: participant.ParticipantDisconnected, at: Envelope, rows: Rows) -> None:
    """The end of a participant's stay."""
    ends(rows, at, f"participant {event.sid}", event.reason and f"left: {event.reason}")


@TIMELINE.on(media.TrackPublished, media.TrackSubscribed)
def published(event: media.TrackPublished | media.TrackSubscribed, at: Envelope, rows: Rows) -> None:
    """A track; of those from before the agent joined, the time in which the agent receives it."""
    source = event.source.lower().removeprefix("source_")
    begins(rows, at, f"track {event.track_sid}", "media", f"{source} of {event.identity}", event.name)


@TIMELINE.on(media.TrackUnpublished, media.TrackUnsubscribed)
def unpublished(event: media.TrackUnpublished | media.TrackUnsubscribed, at: Envelope, rows: Rows) -> None:
    """The end of a track."""
    ends(rows, at, f"track {event.track_sid}")


@TIMELINE.on(media.TrackSubscriptionFailed)
def not_subscribed(event: media.TrackSubscriptionFailed, at: Envelope, rows: Rows) -> None:
    """A track that the agent does not receive."""
    happened(rows, at, "error", f"Track of {event.identity} is not received", event.error)


@TIMELINE.on(media.Reconnecting)
def reconnecting(event: media.Reconnecting, at: Envelope, rows: Rows) -> None:
    """The time in which the agent has no connection to the room."""
    begins(rows, at, f"reconnecting {epoch_of(at.id, at.subject)}", "media", "Agent reconnecting")


@TIMELINE.on(media.Reconnected)
def reconnected(event: media.Reconnected, at: Envelope, rows: Rows) -> None:
    """The end of it."""
    ends(rows, at, f"reconnecting {epoch_of(at.id, at.subject)}")


@TIMELINE.on(media.SipDtmfReceived, media.FileReceived, media.RecordingSaved)
def received(
    event: media.SipDtmfReceived | media.FileReceived | media.RecordingSaved, at: Envelope, rows: Rows
) -> None:
    """A key that was pressed, a file, a recording."""
    match event:
        case media.SipDtmfReceived():
            happened(rows, at, "caller", f"Key {event.digit}")
        case media.FileReceived():
            happened(rows, at, "caller", f"File {event.name}", event.mime_type)
        case media.RecordingSaved():
            happened(rows, at, "media", "Recording saved", event.object_key)


@TIMELINE.on(command.CommandRequested)
def requested(event: command.CommandRequested, at: Envelope, rows: Rows) -> None:
    """A command over the API, until the agent answers it."""
    begins(rows, at, f"command {event.command_id}", "session", f"Command {event.verb}")


@TIMELINE.on(command.CommandApplied, command.CommandRejected)
def answered(event: command.CommandApplied | command.CommandRejected, at: Envelope, rows: Rows) -> None:
    """The agent's answer to a command."""
    text = "applied" if isinstance(event, command.CommandApplied) else f"rejected: {event.reason}"
    ends(rows, at, f"command {event.command_id}", text)
