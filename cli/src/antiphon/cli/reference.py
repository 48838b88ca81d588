"""Print docs/reference/commands.md, from the commands' help: `python -m antiphon.cli.reference`."""

from typer.testing import CliRunner

from antiphon.cli.commands import analytics, flow, keys
from antiphon.cli.main import COMMANDS, app

WIDTH = 100
NAMES = (
    *(command.__name__ for command in COMMANDS),
    *(f"keys {name}" for name in keys.COMMANDS),
    *(f"analytics {name}" for name in analytics.COMMANDS),
    *(f"flow {name}" for name in flow.COMMANDS),
)
HEAD = """\
# Commands

The program is `.venv/bin/antiphon`; `make help` lists the targets for the most common commands.
`ANTIPHON_HOME` selects the stack; all [settings](settings.md) come from the environment. A command that
fails prints the reason and exits with code 1; an invalid setting or argument exits with code 2. Ctrl-C
(130) and SIGTERM (143) end a command alike: what it began is closed, and `events` prints its cursor.

`make up` installs all of them. Elsewhere, `pip install ./contracts ./chassis ./client ./cli` from a checkout
installs a client: `status`, `env`, `logs`, `sessions`, `show`, `timeline`, `analytics`, `tail`, `events`,
`end`, `export`, `keys` and `flow publish`; `export --format parquet` needs `'./cli[parquet]'` instead of
`./cli`.
The other commands need the services, the servers and the synthetic caller of `make up`.
Operators also use the [commands of persistence](persistence-commands.md).
"""


def document() -> str:
    """Return the reference of all commands."""
    return "\n".join([HEAD, *map(_section, NAMES)])


def _section(name: str) -> str:
    shown = CliRunner().invoke(
        app, [*name.split(), "--help"], prog_name="antiphon", terminal_width=WIDTH, max_content_width=WIDTH
    )
    return f"## `antiphon {name}`\n\n```\n{shown.output.strip()}\n```\n"


if __name__ == "__main__":
    print(document(), end="")
