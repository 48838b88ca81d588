import asyncio
import signal
from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.commands.call import call_on_record
from antiphon.cli.commands.livekit import told
from antiphon.cli.commands.stack_at import api_of
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.errors import StackError
from antiphon.cli.screen import me, out, progress, says_why
from antiphon.cli.settings import StackSettings
from antiphon.cli.status import Status
from antiphon.cli.supervisor.state import State


@says_why
def up(
    no_call: Annotated[bool, typer.Option("--no-call", help="Make no first call.")] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and stop the stack on Ctrl-C or SIGTERM.")
    ] = False,
) -> None:
    """Start the stack and make a first call.

    It stays up in the background. When it is up already, nothing is done.
    """
    stack = EmbeddedStack(load(StackSettings))
    if stack.status().ready:
        out.print(Text(f"The stack in {stack.settings.home} is up already.", style="bold"))
        _say_how_to_go_on(stack.status())
        return
    if foreground:
        # `kill` must stop the stack as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _start(stack, detached=not foreground)
    except KeyboardInterrupt:
        stack.stop()
        raise
    try:
        if not no_call:
            asyncio.run(_first_call(stack.status()))
        _say_how_to_go_on(stack.status())
        if foreground:
            stack.wait()
    finally:
        if foreground:
            stack.stop()


def _start(stack: EmbeddedStack, *, detached: bool) -> None:
    done: set[str] = set()
    with progress("Starting") as tell:
        stack.start(
            detached=detached,
            building=lambda build: tell(told(build)),
            watching=lambda state: _show(state, done, tell),
        )


def _show(state: State, done: set[str], tell: Callable[[str], None]) -> None:
    for step in state.steps:
        if step.progress == "done" and step.name not in done:
            done.add(step.name)
            line = Text.assemble(("✓ ", "green"), f"{step.name:<18}", (f"{step.seconds:6.1f} s", "dim"))
            out.print(line.append(f"  {step.detail}", style="dim"))
    running = [step.name for step in state.steps if step.progress == "running"]
    waiting = [f"{service.name} ({service.detail})" for service in state.services if not service.ready]
    if running:
        tell(f"Starting {', '.join(running)}")
    elif waiting:
        tell(f"Waiting for {', '.join(waiting)}")


async def _first_call(status: Status) -> None:
    out.print()
    out.print(Text("A first call, as it is committed to the log:", style="bold"))
    async with api_of(status) as api:
        try:
            await call_on_record(api)
        except StackError as error:
            raise StackError(f"the stack is up, but the first call failed: {error}") from error


def _say_how_to_go_on(status: Status) -> None:
    addresses = status.addresses
    out.print()
    for what, how in (
        ("API", f"{addresses.api_url}  (its documentation: {addresses.api_url}/docs)"),
        ("API key", f"{addresses.api_key}"),
        ("call again", 'make call    or with your words: make call SAY="hello|thank you good bye"'),
        ("look", f"{me()} sessions, {me()} show SESSION, {me()} tail, make status, make logs"),
        ("stop", "make down"),
    ):
        out.print(Text.assemble((f"{what:<12}", "bold"), how))
