"""`antiphon sessions`, `show` and `end`."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.text import Text

from antiphon.cli.api import open_api
from antiphon.cli.screen import out, shown, table
from antiphon.cli.timeline import Timeline, turn_mark
from antiphon.client import AsyncAntiphon, Session, Turn

COLUMNS = ("session_id", "status", "flow_id", "turns", "created_at")


async def print_sessions(limit: int, filters: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print the newest sessions that the filters select, as a table or as one JSON document."""
    async with open_api() as client:
        found = [session async for session in client.sessions.list(limit=limit, **filters)]
    if as_json:
        print_json({"sessions": found})
        return
    columns = list(COLUMNS)
    if any(session.room != session.session_id for session in found):
        columns.append("room")
    table(columns, [[_cell(getattr(session, column)) for column in columns] for session in found])


def print_json(document: Any) -> None:
    """Print one JSON document, in ASCII: no text in it acts on the terminal."""
    text = json.dumps(msgspec.to_builtins(document), indent=2)
    out.print(Text(text.replace("\x7f", "\\u007f")))


def _cell(value: object) -> str:
    return "—" if value is None else shown(str(value))


async def print_session(
    session_id: str, *, at: int | None = None, at_time: str | None = None, as_json: bool = False
) -> None:
    """Print a session's turns and its events, or what it was after an event or at a time."""
    async with open_api() as client:
        if at is None and at_time is None:
            session, past = await client.sessions.get(session_id), None
        else:
            session = await client.sessions.get(session_id, at=at, at_time=at_time)
            past = session.sequence  # what is printed is of one state, also for a time
        if as_json:
            print_json(session)
            return
        out.print(Text.assemble((session.session_id, "bold"), f"  {shown(_headline(session))}"))
        if past is not None:
            await _print_moment(client, session)
        if session.skipped:
            out.print(Text(f"{session.skipped} events could not be read and are not in the view", "yellow"))
        out.print(Text("\nConversation", style="bold"))
        async for turn in client.sessions.turns(session_id, at=past):
            _print_turn(turn)
        out.print(Text("\nTimeline", style="bold"))
        timeline = Timeline()
        async for event in client.sessions.events(session_id, limit=past):
            out.print(timeline.line(event))


async def _print_moment(client: AsyncAntiphon, session: Session) -> None:
    """Print the event that made the session what it is, and what it is."""
    timeline = Timeline()
    async for event in client.sessions.events(session.session_id, limit=1):
        timeline.line(event)  # the times of others are relative to it
    async for event in client.sessions.events(session.session_id, after=session.sequence - 1, limit=1):
        out.print(Text(f"as it was after event {event.sequence}, of {event.time.isoformat()}:"))
        out.print(timeline.line(event))
    out.print(Text("\nState", style="bold"))
    for name, value in _state(session).items():
        if value:
            out.print(Text.assemble((f"  {name:<14}", "dim"), shown(str(value))))


def _state(session: Session) -> dict[str, object]:
    present = [person.identity for person in session.participants.values() if person.left_at is None]
    agents = [agent.identity or "?" for agent in session.agents.values() if agent.left_at is None]
    return {
        "status": session.status,
        "agent": " ".join(part for part in (session.agent_id, session.agent_state) if part),
        "user": session.user_state,
        "in the room": ", ".join(dict.fromkeys((*agents, *present))),
        "turns": session.turns,
        "usage": ", ".join(f"{model.kind} {model.model}" for model in session.usage),
        "ended": session.ended_at and f"{session.ended_at.isoformat()} {session.reason or ''}",
        "detail": session.detail,
    }


def _headline(session: Session) -> str:
    if session.flow_id:
        return f"{session.status}, flow {session.flow_id}"
    agent = f"agent {session.agent_name}" if session.agent_name else "no flow"
    return f"{session.status}, {agent}, room {session.room}"


def _print_turn(turn: Turn) -> None:
    if turn.user_text:
        out.print(Text.assemble((f"{turn.turn:>3}  caller   ", "bold green"), shown(turn.user_text)))
    mark = turn_mark(msgspec.structs.asdict(turn))
    if turn.assistant_text or mark:
        who = (f"{turn.turn:>3}  {shown(turn.agent_id or 'agent'):<9}", "bold magenta")
        text = shown(turn.assistant_text or "")
        out.print(Text.assemble(who, text, (mark if text else mark.lstrip(), "dim")))


async def end_session(session_id: str) -> None:
    """End a session, and print whether it has ended already."""
    async with open_api() as client:
        ending = await client.sessions.end(session_id)
    what = "has ended" if ending.ended else "is ending: its agent publishes the last events"
    out.print(Text.assemble((shown(ending.session_id), "bold"), f" {what}"))
