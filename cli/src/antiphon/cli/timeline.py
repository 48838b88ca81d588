"""An event as one line: time, sequence, type and a summary of its data."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from antiphon.cli.screen import shown
from antiphon.client import SessionEvent, UnreadableResponse

Data = Mapping[str, Any]

FAMILY_STYLES = {
    "session": "bold cyan",
    "agent": "magenta",
    "turn": "bold green",
    "tool": "yellow",
    "participant": "blue",
    "usage": "dim",
    "livekit": "dim blue",
}


def _quoted(text: str | None) -> str:
    return f"“{text}”" if text else "—"


def turn_mark(turn: Data) -> str:
    """Return what a reader must know of a turn that did not end as usual, in brackets; of others nothing."""
    match turn:
        case {"recovered": True}:
            return " (recovered: the agent was killed while it spoke)"
        case {"state": "unfinished"}:
            return " (unfinished: the session ended before the turn was saved)"
        case {"state": "open"}:
            return " (open)"
        case {"interrupted": True}:
            return " (interrupted)"
    return ""


def _turn(data: Data) -> str:
    return (
        f"{data['turn']}  {_quoted(data.get('user_text'))} → "
        f"{data['agent_id']}: {_quoted(data.get('assistant_text'))}{turn_mark(data)}"
    )


def _left(data: Data) -> str:
    return f"job {data['job_id']}, {data['reason']}, {data['turns']} turns"


def _closed(data: Data) -> str:
    return f"{data['reason']}, {data['turns']} turns, {data['duration_seconds']:.1f} s"


def _requested(data: Data) -> str:
    if data.get("agent_name"):
        return f"agent {data['agent_name']}"
    return f"flow {data['flow_id']} revision {data['flow_revision']}"


def _states(data: Data) -> str:
    return f"{data['old_state']} → {data['new_state']}"


def _track(data: Data) -> str:
    return f"{data['kind']} of {data['identity']}"


def _webhook(data: Data) -> str:
    return str(data.get("participant_identity") or "")


SUMMARIES: dict[str, Callable[[Data], str]] = {
    "session.requested": _requested,
    "session.adopted": lambda d: f"room {d['room']}",
    "session.dispatched": lambda d: f"room {d['room_sid']}",
    "session.dispatch_failed": lambda d: str(d["reason"]),
    "session.closed": _closed,
    "session.failed": lambda d: str(d["reason"]),
    "agent.joined": lambda d: f"{d['identity']}, job {d['job_id']}",
    "agent.left": _left,
    "agent.lost": lambda d: f"job {d['job_id']}, noticed by {d['noticed_by']}",
    "agent.ready": lambda d: f"{d['ready_ms']:.0f} ms  {_quoted(d['greeting'])}",
    "agent_state_changed": _states,
    "user_state_changed": _states,
    "agent.handed_off": lambda d: f"{d.get('from_agent') or '—'} → {d['to_agent']}",
    "agent.error": lambda d: f"{d['source']}: {d['message']}",
    "turn.started": lambda d: f"{d['turn']}  {_quoted(d.get('user_text'))} → {d['agent_id']}",
    "turn.saved": _turn,
    "user_input_transcribed": lambda d: _quoted(d["transcript"]),
    "tool.started": lambda d: f"{d['name']} {d['arguments']}",
    "tool.completed": lambda d: f"{d['name']} {d['status']}  {d.get('output') or ''}",
    "participant_connected": lambda d: str(d["identity"]),
    "participant_disconnected": lambda d: f"{d['identity']} {d.get('reason') or ''}",
    "track_published": _track,
    "track_unpublished": _track,
    "track_subscribed": _track,
    "track_unsubscribed": _track,
    "track_muted": _track,
    "track_unmuted": _track,
    "active_speakers_changed": lambda d: ", ".join(d["identities"]) or "none",
    "usage.updated": lambda d: ", ".join(f"{m['kind']} {m['model']}" for m in d["models"]),
    "command.requested": lambda d: str(d["verb"]),
    "livekit.participant_joined": _webhook,
    "livekit.participant_left": _webhook,
    "livekit.track_published": _webhook,
    "livekit.track_unpublished": _webhook,
}


class Timeline:
    """A formatter of one session's events as lines, with times relative to the first event."""

    def __init__(self) -> None:
        self._began: datetime | None = None

    def line(self, event: SessionEvent) -> Text:
        """Format one event."""
        self._began = self._began or event.time
        kind = event.type
        summarise = SUMMARIES.get(kind)
        # LiveKit's webhooks are in whole seconds, so they can precede their cause
        seconds = max((event.time - self._began).total_seconds(), 0.0)
        line = Text(f"{seconds:+9.3f} s  {event.sequence:>4}  ", style="dim")
        line.append(f"{shown(kind):<28}", style=FAMILY_STYLES.get(_family(kind), ""))
        line.append(shown(_summary(summarise, event)) if summarise else "", style="default")
        return line


def feed_line(event: SessionEvent) -> Text:
    """Format an event among those of other sessions: time in UTC, end of the session's id, type, summary."""
    line = Text(f"{event.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3], style="dim")
    line.append(f"  …{shown(event.session_id[-6:])}  ", style="bold")
    line.append(f"{event.sequence:>4}  ", style="dim")
    line.append(f"{shown(event.type):<28}", style=FAMILY_STYLES.get(_family(event.type), ""))
    summarise = SUMMARIES.get(event.type)
    line.append(shown(_summary(summarise, event)) if summarise else "", style="default")
    return line


def _summary(summarise: Callable[[Data], str], event: SessionEvent) -> str:
    try:
        return summarise(event.data)
    except (LookupError, TypeError, ValueError, AttributeError, UnreadableResponse):
        return "(unreadable: not as this version of antiphon knows it)"


def _family(kind: str) -> str:
    family = kind.partition(".")[0] if "." in kind else kind.partition("_")[0]
    return {"user": "turn" if kind == "user_input_transcribed" else "agent"}.get(family, family)
