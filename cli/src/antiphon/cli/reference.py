"""Write docs/reference/commands.md from the commands' own help: `python -m antiphon.cli.reference > FILE`."""

from typer.testing import CliRunner

from antiphon.cli.main import COMMANDS, app

WIDTH = 100
HEAD = """\
# Commands

`make` has a verb for the most common ones; `make help` lists them. All of them are the `antiphon` command
in `.venv/bin`. `ANTIPHON_HOME` says which stack is meant; all [settings](settings.md) come from the
environment. A command that cannot do what it is asked ends with code 1 and says why in a line; a wrong
setting or argument ends it with code 2.
"""


def document() -> str:
    """Return the reference of all commands."""
    return "\n".join([HEAD, *(_section(command.__name__) for command in COMMANDS)])


def _section(name: str) -> str:
    shown = CliRunner().invoke(
        app, [name, "--help"], prog_name="antiphon", terminal_width=WIDTH, max_content_width=WIDTH
    )
    return f"## antiphon {name}\n\n```\n{shown.output.strip()}\n```\n"


if __name__ == "__main__":
    print(document(), end="")
