"""The `antiphon` command: arguments and help; each implementation is imported when it runs."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from antiphon.cli.commands import analytics, audit, flow, keys
from antiphon.cli.flows.metadata import Metadata, Variables, given
from antiphon.cli.program import Commands, Program, print_version
from antiphon.cli.requirements import require_parquet, require_recogniser, require_stack
from antiphon.cli.screen import report_errors

FIRST_CALL = (
    "i would like to book a table for two",
    "tomorrow at seven",
    "yes please",
    "may i speak to the manager",
    "thank you good bye",
)


def _session_id(text: str | None) -> str | None:
    from antiphon.contracts.ids import is_session_id

    if text is not None and not is_session_id(text):
        raise typer.BadParameter("a session's id is ses_ and 26 characters: antiphon sessions lists them")
    return text


def _instant(text: str | None) -> str | None:
    from antiphon.cli.commands.export import instant

    try:
        return None if text is None else instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


class ExportFormat(StrEnum):
    """The formats of an export."""

    NDJSON = "ndjson"
    PARQUET = "parquet"


def up(
    no_call: Annotated[bool, typer.Option("--no-call", help="Skip the first call.")] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Run until Ctrl-C or SIGTERM, then stop the stack.")
    ] = False,
) -> None:
    """Start the stack and make a first call.

    The stack runs in the background. If it is already up, nothing is started; if another command starts it,
    this one waits until it is up.
    """
    require_stack("up")
    require_recogniser()
    from antiphon.cli.commands.stack import start

    start(first_call=None if no_call else FIRST_CALL, foreground=foreground)


def down() -> None:
    """Stop the stack and keep its data."""
    require_stack("down")
    from antiphon.cli.commands.stack import stop

    stop()


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="With --json: keys and passwords too, which are null otherwise.")
    ] = False,
) -> None:
    """Print the state of each service. Exit with 0 only if all are ready."""
    from antiphon.cli.commands.status import print_status

    if not print_status(as_json=as_json, secrets=secrets):
        raise typer.Exit(1)


def env() -> None:
    """Print how to reach the stack, as `export` lines with its key and passwords.

    They are the address and the key of the API, the DSN of Postgres and the URL of NATS, for other programs
    that are started in the same shell: eval "$(.venv/bin/antiphon env)".
    """
    from antiphon.cli.commands.status import print_environment

    print_environment()


def logs(
    service: Annotated[str | None, typer.Argument(help="One service; default: all.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as they are written.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Number of last lines.", min=0)] = 50,
) -> None:
    """Print the logs of the services."""
    from antiphon.cli.commands.logs import print_logs

    print_logs(service, follow=follow, lines=lines)


def call(
    flow: Annotated[
        str | None, typer.Option(help="Id of the flow to call; default: booking.", show_default=False)
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Name of a LiveKit agent of your own to call, instead of a flow.")
    ] = None,
    say: Annotated[str, typer.Option(help="Lines that the caller speaks.", metavar='"A|B|C"')] = "|".join(
        FIRST_CALL
    ),
    ready_within: Annotated[
        float, typer.Option(help="Seconds to wait for the agent to become ready.", min=1.0)
    ] = 30.0,
    metadata: Metadata = None,
    variable: Variables = None,
) -> None:
    """Call the agent and print the transcript.

    A synthetic caller joins the room and speaks each line after the agent's reply to the one before.
    A line that the agent does not understand is repeated.
    Exit with 1 if no agent becomes ready or the agent does not reply.
    """
    require_stack("call")
    from antiphon.cli import ending
    from antiphon.cli.commands.call import print_call

    if flow is not None and agent is not None:
        raise typer.BadParameter("pass --flow or --agent, not both")
    if "" in (flow, agent):
        raise typer.BadParameter("--flow and --agent take a name, not an empty one")
    flow = flow or (None if agent else "booking")
    ending.run(print_call(say, ready_within, flow=flow, agent=agent, **given(metadata, variable)))


def tail(
    session: Annotated[
        str | None,
        typer.Argument(
            help="One session, from its first event to its last; default: all.", callback=_session_id
        ),
    ] = None,
) -> None:
    """Print events live, as they are committed.

    Without a session: those of every session that has not ended, and of every new one. At most 30 are
    followed at the same time; of the others the start is printed, and the rest when one of the 30 has ended.
    """
    from antiphon.cli.commands.tail import print_live

    asyncio.run(print_live(session))


def events(
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only events of this type, as turn.saved; may be repeated."),
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Only events of this family, as turn; may be repeated.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Only the events of this session.", callback=_session_id)
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Only the events of sessions of this flow.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="start, now, a time as 2026-11-21T09:30:00Z, or how long ago, as 15m; default: start.",
            metavar="TIME",
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Go on after this cursor, as printed at the end.", metavar="CURSOR")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new events as they are committed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Print the events of all sessions.

    The order is that of each session. At the end, or after Ctrl-C or SIGTERM, the cursor to go on from is
    printed on standard error: with --after CURSOR and the same filters, nothing is skipped and nothing comes
    twice.
    """
    from antiphon.cli.commands.events import print_events

    filters = {"types": kind or None, "families": family or None, "session_id": session, "flow_id": flow}
    asyncio.run(print_events(filters, since=since, after=after, follow=follow, as_json=as_json))


def sessions(
    limit: Annotated[int, typer.Option(help="Maximum number of sessions.", min=1, max=100)] = 20,
    room: Annotated[str | None, typer.Option(help="Only the sessions of this LiveKit room.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only the sessions with this status; may be repeated.")
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Only the sessions of this flow.")] = None,
    user: Annotated[str | None, typer.Option(help="Only the sessions of this user.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the newest sessions."""
    from antiphon.cli.commands.sessions import print_sessions

    filters = {"room": room, "status": status or None, "flow_id": flow, "user_id": user}
    asyncio.run(print_sessions(limit, filters, as_json=as_json))


def show(
    session: Annotated[str, typer.Argument(help="Id of the session.", callback=_session_id)],
    at: Annotated[
        int | None,
        typer.Option(
            help="As it was after the event with this sequence.", metavar="SEQUENCE", show_default=False
        ),
    ] = None,
    at_time: Annotated[
        str | None,
        typer.Option(
            help="As it was at this time, for example 2026-11-21T09:30:00Z.",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the session as one JSON document.")] = False,
) -> None:
    """Print a session's conversation and its timeline, as they are or were."""
    from antiphon.cli.commands.sessions import print_session

    if at is not None and at_time is not None:
        raise typer.BadParameter("pass --at or --at-time, not both")
    asyncio.run(print_session(session, at=at, at_time=at_time, as_json=as_json))


def timeline(
    session: Annotated[str, typer.Argument(help="Id of the session.", callback=_session_id)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what happened in a session: one line per thing, from its start to its end."""
    from antiphon.cli.commands.timeline import print_timeline

    asyncio.run(print_timeline(session, as_json=as_json))


def end(
    session: Annotated[str, typer.Argument(help="Id of the session.", callback=_session_id)],
) -> None:
    """End a session: its room is closed, and its log completed. Ending it again changes nothing."""
    from antiphon.cli.commands.sessions import end_session

    asyncio.run(end_session(session))


def export(
    file_format: Annotated[
        ExportFormat,
        typer.Option("--format", help="One file with an event per line, or a folder of Parquet files."),
    ],
    output: Annotated[
        str, typer.Option(help="The file (- is standard output), or the folder for Parquet.", metavar="PATH")
    ],
    since: Annotated[
        str | None,
        typer.Option(help="Only events committed on this day or later, or at this time.", callback=_instant),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Only events committed before this day or time.", callback=_instant),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")
    ] = None,
    without_pii: Annotated[bool, typer.Option("--without-pii", help="Leave out personal fields.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an export stopped; add to a complete one what is new since."
        ),
    ] = False,
) -> None:
    """Export the events of all sessions, up to the newest of now.

    Parquet files are partitioned by day and type. An export that was interrupted in any way goes on with
    --resume and the same options, without loss or repetition. Progress is shown on standard error: a bar, or
    without a terminal a line every 3 s.
    Days and times are in UTC, as 2026-01-31 or 2026-01-31T09:30:00Z.
    """
    if file_format is ExportFormat.PARQUET:
        require_parquet()
    from antiphon.cli.commands.export import export_events
    from antiphon.cli.export.manifest import Request

    request = Request(
        format=file_format.value,
        types=sorted(set(types or ())),
        since=since,
        until=until,
        without_pii=without_pii,
    )
    asyncio.run(export_events(output, request, resume=resume))


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Arguments of psql, as -c 'select …'.", show_default=False)
    ] = None,
) -> None:
    """Run the embedded stack's psql on its database.

    All arguments and standard input are passed on to psql, and its exit code comes back; without arguments
    it is interactive. It connects as the owner of the database, who may change everything.
    """
    require_stack("psql")
    from antiphon.cli.commands.psql import run_psql

    run_psql(arguments or ())


def livekit() -> None:
    """Find livekit-server, or build it once, and print its path."""
    require_stack("livekit")
    from antiphon.cli.commands.stack import print_livekit

    print_livekit()


COMMANDS: tuple[Callable[..., None], ...] = (
    up,
    down,
    status,
    env,
    logs,
    call,
    tail,
    events,
    sessions,
    show,
    timeline,
    end,
    export,
    psql,
    audit.audit,
    livekit,
)
# Commands whose arguments are those of another program, in its order.
PASSING_ON = {psql: {"ignore_unknown_options": True, "allow_interspersed_args": False}}


app = Program(
    name="antiphon",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Run the embedded stack, make calls, and read the log of sessions."""


for command in COMMANDS:
    app.command(context_settings=PASSING_ON.get(command))(report_errors(command))
app.add_typer(keys.app)
app.add_typer(analytics.app)
app.add_typer(flow.app)
