"""The `antiphon` command: arguments and help; each implementation is imported when it runs."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import typer

from antiphon.cli.commands import analytics, keys
from antiphon.cli.requirements import require_recogniser, require_stack
from antiphon.cli.screen import report_errors, unwritten_output

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
) -> None:
    """Call the agent and print the transcript.

    A synthetic caller joins the room and speaks each line after the agent's reply to the one before.
    A line that the agent does not understand is repeated.
    Exit with 1 if no agent becomes ready or the agent does not reply.
    """
    require_stack("call")
    from antiphon.cli.commands.call import print_call

    lines = [line.strip() for line in say.split("|") if line.strip()]
    if flow is not None and agent is not None:
        raise typer.BadParameter("pass --flow or --agent, not both")
    if "" in (flow, agent):
        raise typer.BadParameter("--flow and --agent take a name, not an empty one")
    if agent is None and flow is None:
        flow = "booking"
    asyncio.run(print_call(lines, ready_within, flow=flow, agent=agent))


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


def show(session: Annotated[str, typer.Argument(help="Id of the session.", callback=_session_id)]) -> None:
    """Print a session's conversation and its timeline."""
    from antiphon.cli.commands.sessions import print_session

    asyncio.run(print_session(session))


def timeline(
    session: Annotated[str, typer.Argument(help="Id of the session.", callback=_session_id)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what happened in a session: one line per thing, from its start to its end."""
    from antiphon.cli.commands.timeline import print_timeline

    asyncio.run(print_timeline(session, as_json=as_json))


def end(session: Annotated[str, typer.Argument(help="Id of the session.")]) -> None:
    """End a session: its room is closed, and its log completed. Ending it again changes nothing."""
    from antiphon.cli.commands.sessions import end_session

    asyncio.run(end_session(session))


def livekit() -> None:
    """Find livekit-server, or build it once, and print its path."""
    require_stack("livekit")
    from antiphon.cli.commands.stack import print_livekit

    print_livekit()


COMMANDS: tuple[Callable[..., None], ...] = (
    up,
    down,
    status,
    logs,
    call,
    tail,
    sessions,
    show,
    timeline,
    end,
    livekit,
)


class Program(typer.Typer):
    """The commands, as the program that the installed script calls."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run a command."""
        with unwritten_output():
            return super().__call__(*arguments, **named)


app = Program(
    name="antiphon",
    help="Run the embedded stack, make calls, and read the log of sessions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(report_errors(command))
app.add_typer(keys.app)
app.add_typer(analytics.app)
