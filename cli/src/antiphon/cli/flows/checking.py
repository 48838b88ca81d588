"""`antiphon flow check`: every problem of flow files, a line for each."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from antiphon.agent_worker.conversation.flow_file import FlowFile, FlowProblem, InvalidFlow, open_flow
from antiphon.cli.errors import StackError
from antiphon.cli.screen import err, out, shown


def print_problems(files: Sequence[Path], *, as_json: bool, needs_secrets: bool) -> bool:
    """Print what is wrong with flow files, and return whether nothing is."""
    problems: list[FlowProblem] = []
    for path in files:
        try:
            open_flow(path, needs_secrets=needs_secrets)
        except InvalidFlow as error:
            problems += error.problems
    if as_json:
        document = {"files": len(files), "problems": [asdict(problem) for problem in problems]}
        out.print(json.dumps(document, indent=2), markup=False)
        return not problems
    for problem in problems:
        out.print(line(problem))
    err.print(Text(_summary(len(files), len(problems)), style="red" if problems else "green"))
    return not problems


def line(problem: FlowProblem) -> Text:
    """Return a problem as `file:line: place: reason`."""
    text = Text(shown(f"{problem.file}:{problem.line}: "))
    if problem.place:
        text.append(shown(f"{problem.place}: "), style="bold")
    return text.append(shown(problem.reason))


def opened(path: Path) -> FlowFile:
    """Open a flow file to talk with it as text. Raises StackError with every problem, a line each."""
    try:
        return open_flow(path, as_text=True)
    except InvalidFlow as error:
        raise StackError(f"{path} has errors:\n{error}") from error


def _summary(files: int, problems: int) -> str:
    counted = f"{files} file" if files == 1 else f"{files} files"
    if not problems:
        return f"{counted}: no problem"
    return f"{counted}: 1 problem" if problems == 1 else f"{counted}: {problems} problems"
