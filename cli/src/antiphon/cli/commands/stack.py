"""`antiphon up`, `down` and `livekit`."""

import asyncio
import time
from collections.abc import Callable, Sequence

from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.api import stack_api
from antiphon.cli.commands.call import record_call
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.errors import StackError
from antiphon.cli.screen import out, program_name, progress
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit_build import PACKAGES, VERSION, Progress, find_livekit
from antiphon.cli.status import Status, live_state
from antiphon.cli.supervisor.state import State


def start(*, first_call: Sequence[str] | None, foreground: bool) -> None:
    """Start the stack, make a first call with these lines, and print the next steps."""
    stack = EmbeddedStack(load(StackSettings))
    if not stack.status().ready and not any(stack.settings.flows.glob("*.yaml")):
        raise StackError(
            f"There are no flow files (*.yaml) in {stack.settings.flows}. Name a folder with ANTIPHON_FLOWS."
        )
    if not _start(stack, detached=not foreground):
        out.print(Text(f"The stack in {stack.settings.home} is already up.", style="bold"))
        _print_next_steps(stack.status())
        return
    try:
        if first_call is not None:
            asyncio.run(_first_call(stack.status(), first_call))
        _print_next_steps(stack.status())
        if foreground:
            stack.wait()
    finally:
        if foreground:
            stack.stop()


def stop() -> None:
    """Stop the stack and report whether it was up."""
    stack = EmbeddedStack(load(StackSettings))
    began = time.monotonic()
    done: set[str] = set()
    with progress("Stopping", at_once=True) as update:
        stopped = stack.stop(watching=lambda state: _print_stopped(state, done, began, update))
    what = "stopped" if stopped else "was not up"
    out.print(Text(f"The stack in {stack.settings.home} {what}."))


def print_livekit() -> None:
    """Find or build livekit-server and print its path."""
    with progress("Looking for livekit-server") as update:
        program = find_livekit(load(StackSettings).cache, lambda build: update(_build_line(build)))
    out.print(Text(str(program)))


def _start(stack: EmbeddedStack, *, detached: bool) -> bool:
    """Start the stack and print its steps; return False if another command has started it."""
    # The steps of a stack that is already up are no news.
    before = live_state(stack.settings)
    done = {step.name for step in before.steps if step.progress == "done"} if before else set()
    try:
        with progress("Starting") as update:
            return stack.start(
                detached=detached,
                building=lambda build: update(_build_line(build)),
                watching=lambda state: _print_steps(state, done, update),
            )
    except KeyboardInterrupt:
        if stack.launched:
            stack.stop()
        raise


def _build_line(build: Progress) -> str:
    if build.waiting:
        return f"Waiting for another build of livekit-server, {build.seconds:.0f} s"
    if build.cleaning:
        return f"Removing the files of the build, {build.seconds:.0f} s"
    if build.linking:
        counts = "all packages compiled, linking the program"
    else:
        percent = min(100 * build.packages // PACKAGES, 99)
        counts = f"{build.modules} modules downloaded, {build.packages} packages compiled ({percent} %)"
    return f"Building livekit-server {VERSION}, once: {counts}, {build.seconds:.0f} s"


def _print_steps(state: State, done: set[str], update: Callable[[str], None]) -> None:
    for step in state.steps:
        if step.progress == "done" and step.name not in done:
            done.add(step.name)
            line = Text.assemble(("✓ ", "green"), f"{step.name:<18}", (f"{step.seconds:6.1f} s", "dim"))
            out.print(line.append(f"  {step.detail}", style="dim"))
    running = [step.name for step in state.steps if step.progress == "running"]
    waiting = [f"{service.name} ({service.detail})" for service in state.services if not service.ready]
    if running:
        update(f"Starting {', '.join(running)}")
    elif waiting:
        update(f"Waiting for {', '.join(waiting)}")


def _print_stopped(state: State, done: set[str], began: float, update: Callable[[str], None]) -> None:
    """Print each service that has ended, the first first, and what is waited for."""
    seconds = time.monotonic() - began
    for service in reversed(state.services):
        if service.detail == "stopped" and service.name not in done:
            done.add(service.name)
            out.print(Text.assemble(("✓ ", "green"), f"{service.name:<18}", (f"{seconds:6.1f} s", "dim")))
    stopping = [service.name for service in state.services if service.detail == "stopping"]
    running = [service.name for service in reversed(state.services) if service.pid]
    if waiting := (stopping or running)[:1]:
        update(f"Waiting for {waiting[0]} to end, {seconds:.0f} s")


async def _first_call(status: Status, lines: Sequence[str]) -> None:
    out.print()
    out.print(Text("A first call, as it is committed to the log:", style="bold"))
    try:
        async with stack_api(status) as api:
            await record_call(api, lines)
    except StackError as error:
        raise StackError(f"the stack is up, but the first call failed: {error}") from error


def _print_next_steps(status: Status) -> None:
    addresses, me = status.addresses, program_name()
    out.print()
    for what, how in (
        ("API", f"{addresses.api_url}  (its documentation: {addresses.api_url}/docs)"),
        ("API key", f"{addresses.api_key}"),
        ("call again", 'make call    or with your words: make call SAY="hello|thank you good bye"'),
        ("look", f"{me} sessions, {me} show SESSION, {me} tail, make status, make logs"),
        ("variables", f'eval "$({me} env)"    for other programs in this shell'),
        ("stop", "make down"),
    ):
        out.print(Text.assemble((f"{what:<12}", "bold"), how))
