"""`antiphon flow new`, `check`, `run`, `test`, `diff` and `publish`: arguments and help."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.errors import StackError
from antiphon.cli.flows.metadata import Metadata, Variables, given
from antiphon.cli.requirements import require_stack
from antiphon.cli.screen import report_errors

app = typer.Typer(
    name="flow",
    help="Write, check, try, test, compare and publish flows: what an agent says and does.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Files = Annotated[list[Path], typer.Argument(help="Flow files.", metavar="FILE…", show_default=False)]


class Template(StrEnum):
    """What a new flow begins with."""

    BOOKING = "booking"
    SURVEY = "survey"
    SUPPORT = "support"
    MINIMAL = "minimal"


class Format(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"


def new(
    name: Annotated[str, typer.Argument(help="Id of the flow: lower-case letters, digits and -.")],
    template: Annotated[
        Template, typer.Option(help="What it begins with; support uses OpenAI and Deepgram.")
    ] = Template.MINIMAL,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where; default: flows/ if there is one, else here.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a flow file to start from.

    Beside it goes flow.schema.json, if it is not there yet: with it an editor completes the keys.
    """
    require_stack("flow new")
    from antiphon.cli.flows.writing import write_flow

    write_flow(name, template.value, folder, force=force)


def check(
    files: Files,
    form: Annotated[
        Format, typer.Option("--format", help="One line per problem, or one JSON document.")
    ] = Format.TEXT,
    secrets: Annotated[
        bool, typer.Option("--secrets/--no-secrets", help="Whether secrets and keys must be set here.")
    ] = True,
) -> None:
    """Check flow files and print every problem, as file:line: place: reason.

    Exit with 1 if there is one.
    """
    require_stack("flow check")
    from antiphon.cli.flows.checking import print_problems

    if not print_problems(files, as_json=form is Format.JSON, needs_secrets=secrets):
        raise typer.Exit(1)


def run(
    file: Annotated[Path, typer.Argument(help="A flow file.")],
    metadata: Metadata = None,
    variable: Variables = None,
) -> None:
    """Talk with a flow as text, in this terminal: no server, no sound; no key unless the flow needs one.

    Each line is what the caller says. Shown are the answers, the tools with their results and the hand-offs;
    tools are really called. `/silence` says nothing until the agent asks, `/keys 12#` presses keys, `end` or
    Ctrl-D hangs up. The lines may come from a pipe. Exit with 1 if something failed.
    """
    require_stack("flow run")
    from antiphon.cli import ending
    from antiphon.cli.flows.talking import talk

    if not ending.run(talk(file, **given(metadata, variable))):
        raise typer.Exit(1)


def hold(
    files: Files,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="With the real models and tools: compares calls, hand-offs and ends, and no texts.",
        ),
    ] = False,
    only: Annotated[
        str | None, typer.Option("-k", help="Only conversations with this in their name.", metavar="TEXT")
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit-xml", help="Write a report for CI to this file.", show_default=False),
    ] = None,
) -> None:
    """Hold the conversations that flows expect (`expect:`), and print where they differ.

    It needs no server and no key: real models give the answers of `model:`, and tools the results of
    `tools:`. Exit with 1 if a conversation differs, or there is none.
    """
    require_stack("flow test")
    from antiphon.cli import ending
    from antiphon.cli.flows.testing import print_outcomes

    if not ending.run(print_outcomes(files, live=live, only=only, junit=junit)):
        raise typer.Exit(1)


def diff(
    before: Annotated[
        str, typer.Argument(help="A flow file, or FLOW@REVISION of the deployment.", metavar="A")
    ],
    after: Annotated[str, typer.Argument(help="The other one.", metavar="B")],
) -> None:
    """Print the difference between two flow files or revisions, part by part."""
    require_stack("flow diff")
    from antiphon.cli.flows.comparing import print_difference

    asyncio.run(print_difference(before, after))


def publish(
    files: Files,
    if_match: Annotated[
        int | None,
        typer.Option(
            help="Only if this is still the newest revision; 0: only a new flow.",
            metavar="REVISION",
            min=0,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Publish flows to the running deployment: each makes a new revision, unless it has not changed.

    Sessions go on with the revision that they began with. The deployment checks the flow, with its own
    providers and secrets; its problems are printed as those of `check`. Needs the scope flows:write.
    """
    if if_match is not None and len(files) > 1:
        raise StackError("--if-match is for one file: each flow has its own revisions")
    from antiphon.cli.flows.publishing import publish_files

    if not asyncio.run(publish_files(files, if_match)):
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None]] = {
    "new": new,
    "check": check,
    "run": run,
    "test": hold,
    "diff": diff,
    "publish": publish,
}
for command_name, command in COMMANDS.items():
    app.command(command_name)(report_errors(command))
