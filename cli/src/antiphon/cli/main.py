import typer

from antiphon.cli.commands.call import call
from antiphon.cli.commands.down import down
from antiphon.cli.commands.livekit import livekit
from antiphon.cli.commands.logs import logs
from antiphon.cli.commands.sessions import sessions, show
from antiphon.cli.commands.status import status
from antiphon.cli.commands.tail import tail
from antiphon.cli.commands.up import up

COMMANDS = (up, down, status, logs, call, tail, sessions, show, livekit)

app = typer.Typer(
    name="antiphon",
    help="The durable memory of voice agents: run the embedded stack, make a call, look at the log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)
