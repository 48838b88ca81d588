"""`antiphon sessions`, `show` and `tail`."""

import asyncio

from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.api import Json, SessionApi
from antiphon.cli.errors import StackError
from antiphon.cli.screen import out, program_name, shown, table
from antiphon.cli.settings import ClientSettings, StackSettings
from antiphon.cli.status import Status, status_of
from antiphon.cli.timeline import Timeline, turn_mark

POLL_SECONDS = 1.0
NEWEST = 20
TERMINAL_STATUSES = ("closed", "failed")


def open_api() -> SessionApi:
    """Open the session-api of ANTIPHON_API_URL, else that of the embedded stack.

    Raises StackError when there is neither.
    """
    client = load(ClientSettings)
    if client.url:
        if not client.key:
            raise StackError("ANTIPHON_API_URL needs ANTIPHON_API_KEY")
        return SessionApi(str(client.url).rstrip("/"), client.key)
    settings = load(StackSettings)
    status = status_of(settings)
    if not any(service.ready for service in status.services):
        raise StackError(
            f"no stack is up in {settings.home}: run `{program_name()} up`, or set ANTIPHON_API_URL"
        )
    return stack_api(status)


def stack_api(status: Status) -> SessionApi:
    """Open the session-api of a stack with its development key."""
    if status.addresses.api_key is None:
        raise StackError(f"the stack in {status.addresses.home} has no API key yet")
    return SessionApi(status.addresses.api_url, status.addresses.api_key)


async def print_sessions(limit: int, room: str | None) -> None:
    """Print the newest sessions, of one room or of all, as a table."""
    async with open_api() as api:
        found = await api.sessions(limit=limit, room=room)
    columns = ["session_id", "status", "flow_id", "turns", "created_at"]
    if any(session["room"] != session["session_id"] for session in found):
        columns.append("room")
    table(columns, [[_cell(session[column]) for column in columns] for session in found])


def _cell(value: object) -> str:
    return "—" if value is None else shown(str(value))


async def print_session(session_id: str) -> None:
    """Print a session's turns and its events."""
    async with open_api() as api:
        session = await api.session(session_id)
        out.print(Text.assemble((session_id, "bold"), f"  {shown(_headline(session))}"))
        if session["skipped"]:
            out.print(
                Text(f"{session['skipped']} events could not be read and are not in the view", "yellow")
            )
        out.print(Text("\nConversation", style="bold"))
        async for turn in api.turns(session_id):
            _print_turn(turn)
        out.print(Text("\nTimeline", style="bold"))
        timeline = Timeline()
        async for event in api.events(session_id):
            out.print(timeline.line(event))


def _headline(session: Json) -> str:
    if session["flow_id"]:
        return f"{session['status']}, flow {session['flow_id']}"
    agent = f"agent {session['agent_name']}" if session.get("agent_name") else "no flow"
    return f"{session['status']}, {agent}, room {session['room']}"


def _print_turn(turn: Json) -> None:
    if turn["user_text"]:
        out.print(Text.assemble((f"{turn['turn']:>3}  caller   ", "bold green"), shown(turn["user_text"])))
    mark = turn_mark(turn)
    if turn["assistant_text"] or mark:
        who = (f"{turn['turn']:>3}  {shown(turn['agent_id']):<9}", "bold magenta")
        text = shown(turn["assistant_text"] or "")
        out.print(Text.assemble(who, text, (mark if text else mark.lstrip(), "dim")))


async def print_live(session: str | None) -> None:
    """Print the events of one session, or of all sessions that have not ended, as they are committed."""
    async with open_api() as api:
        if session is not None:
            await print_events(api, session)
            return
        try:
            await _print_all(api)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def _print_all(api: SessionApi) -> None:
    known: set[str] = set()
    first = True
    async with asyncio.TaskGroup() as following:
        while True:
            for session in reversed(await api.sessions(limit=NEWEST)):
                session_id = session["session_id"]
                # sessions that had ended at the start are skipped; `antiphon show` prints them
                ended_before = first and session["status"] in TERMINAL_STATUSES
                if session_id not in known and not ended_before:
                    following.create_task(print_events(api, session_id, prefix=f"…{session_id[-6:]}  "))
                known.add(session_id)
            first = False
            await asyncio.sleep(POLL_SECONDS)


async def print_events(api: SessionApi, session: str, *, prefix: str = "") -> None:
    """Print one session's events, past and live, to its last."""
    timeline = Timeline()
    async for event in api.follow(session):
        out.print(Text(prefix, style="bold") + timeline.line(event))
