"""The `antiphon` program around its commands: messages of wrong arguments, output that fails, its version."""

from typing import Any

import typer
import typer.core

from antiphon.cli.screen import shown, unwritten_output


class Commands(typer.core.TyperGroup):
    """The commands, with the same messages for wrong arguments as the HTTP API."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises typer.BadParameter.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            found = getattr(error.__cause__, "errors", None)
            if found is not None:  # of pydantic, which typer uses
                from antiphon.chassis.validation_messages import message_of

                error.message = shown(message_of(found()[0]))
            raise


class Program(typer.Typer):
    """The commands, as the program that the installed script calls."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run a command."""
        with unwritten_output():
            return super().__call__(*arguments, **named)


def print_version(wanted: bool) -> None:
    """Print the version and exit, if wanted."""
    if wanted:
        from importlib.metadata import version

        print(f"antiphon {version('antiphon-cli')}")
        raise typer.Exit
