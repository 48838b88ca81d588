"""Flow files, read and checked: every error with its file, line and reason."""

from pathlib import Path as FilePath

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from antiphon.agent_worker.flow.check import check_flow
from antiphon.agent_worker.flow.document import Document, read_document
from antiphon.agent_worker.flow.model import PATTERNS, Flow
from antiphon.agent_worker.flow.problems import FlowProblem, InvalidFlow


def load_flow(source: FilePath | str, *, name: str = "flow") -> Flow:
    """Load a flow from a file (a Path) or from its YAML text (a str; `name` stands for the file in errors).

    Raises InvalidFlow with every problem that was found.
    """
    if isinstance(source, FilePath):
        return _check(read_document(_read(source), file=str(source)))
    return _check(read_document(source, file=name))


def _read(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFlow([FlowProblem(str(path), 1, "", f"cannot be read: {error}")]) from error


def _check(document: Document) -> Flow:
    try:
        flow = Flow.model_validate(document.data)
    except ValidationError as error:
        raise InvalidFlow([_problem(document, fault) for fault in error.errors()]) from error
    if problems := check_flow(flow, document):
        raise InvalidFlow(problems)
    return flow


def _problem(document: Document, fault: ErrorDetails) -> FlowProblem:
    path = tuple(step for step in fault["loc"] if step != "[key]")
    if fault["type"] == "string_pattern_mismatch":
        return document.problem(path, f"{fault['input']!r} is not {PATTERNS[fault['ctx']['pattern']]}")
    return document.problem(path, fault["msg"][0].lower() + fault["msg"][1:])
