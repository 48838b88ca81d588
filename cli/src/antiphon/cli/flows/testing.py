"""`antiphon flow test`: hold the conversations that flows expect, and print where they differ."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from antiphon.agent_worker.conversation.expected import Outcome, StepOutcome, run_expected
from antiphon.agent_worker.conversation.flow_file import InvalidFlow, open_flow
from antiphon.agent_worker.conversation.happenings import told
from antiphon.agent_worker.conversation.trial import CannotTry, discard_logs
from antiphon.cli.errors import StackError
from antiphon.cli.flows.junit import Suite, write_report
from antiphon.cli.screen import err, out, shown

PASSED, FAILED, NOT_RUN = "✓", "✗", "-"


async def print_outcomes(files: Sequence[Path], *, live: bool, only: str | None, junit: Path | None) -> bool:
    """Hold the conversations of flow files, print how each went, and return whether all passed.

    Raises StackError if there is none.
    """
    discard_logs()
    began = time.monotonic()
    suites = [await _print_file(path, live=live, only=only) for path in files]
    if junit is not None:
        write_report(junit, suites)
    outcomes = [outcome for suite in suites for outcome in suite.outcomes]
    broken = sum(suite.error is not None for suite in suites)
    if not outcomes and not broken:
        what = "no conversation" if only is None else f"no conversation with {shown(only)!r} in its name"
        raise StackError(f"{what}: write some under `expect:`")
    good = not broken and all(outcome.passed for outcome in outcomes)
    seconds = time.monotonic() - began
    err.print(Text(summary(outcomes, broken, seconds), style="green" if good else "red"))
    return good


async def _print_file(path: Path, *, live: bool, only: str | None) -> Suite:
    try:
        file = open_flow(path, needs_secrets=live, as_text=True)
    except InvalidFlow as error:
        out.print(Text(f"{FAILED} {shown(str(path))} has errors", style="red"))
        for problem in error.problems:
            out.print(Text(shown(f"    {problem}")))
        return Suite(str(path), (), str(error))
    out.print(Text(shown(str(path)), style="bold"))
    held: list[Outcome] = []
    try:
        async for outcome in run_expected(file, live=live, wanted=lambda name: _is_wanted(name, only)):
            held.append(outcome)
            for line in lines(outcome, str(path)):
                out.print(line)
    except CannotTry as error:
        out.print(Text(shown(f"  {FAILED} {error}"), style="red"))
        return Suite(str(path), tuple(held), str(error))
    return Suite(str(path), tuple(held))


def _is_wanted(name: str, only: str | None) -> bool:
    return only is None or only.lower() in name.lower()


def lines(outcome: Outcome, file: str) -> Iterator[Text]:
    """Yield an outcome: its name, and each difference with what was expected and heard."""
    if outcome.not_run is not None:
        yield Text(shown(f"  {NOT_RUN} {outcome.name}: not run: {outcome.not_run}"), style="yellow")
        return
    mark, style = (PASSED, "green") if outcome.passed else (FAILED, "red")
    name = Text(f"  {mark} ", style=style).append(shown(outcome.name), style="default")
    yield name.append(f"  {outcome.seconds:.2f} s", style="dim")
    for number, step in enumerate(outcome.steps, start=1):
        if step.differences:
            yield from _step(number, step, file)


def _step(number: int, step: StepOutcome, file: str) -> Iterator[Text]:
    yield Text(shown(f"    step {number}: {_action(step)}"))
    for found in step.differences:
        place = f"{step.place}.{found.key}" if found.key else step.place
        yield Text(shown(f"    {file}:{found.line}: {place}"), style="bold")
        yield Text(shown(f"      expected  {found.expected}"), style="green")
        yield Text(shown(f"      heard     {found.heard}"), style="red")
    for happening in step.happened:
        yield Text(shown(f"      {type(happening).__name__.lower():<9} {told(happening)}"), style="dim")


def _action(step: StepOutcome) -> str:
    if step.step.caller is not None:
        return f"the caller says “{step.step.caller}”"
    return f"the caller presses {step.step.keys}" if step.step.keys else "the caller says nothing"


def summary(outcomes: Sequence[Outcome], broken: int, seconds: float) -> str:
    """Return the counts as a line."""
    failed = sum(not outcome.passed for outcome in outcomes)
    not_run = sum(outcome.not_run is not None for outcome in outcomes)
    counts = [f"{len(outcomes) - failed - not_run} passed"]
    counts += [f"{failed} failed"] * bool(failed) + [f"{not_run} not run"] * bool(not_run)
    counts += [f"{broken} with errors"] * bool(broken)
    return f"{', '.join(counts)} in {seconds:.2f} s"
