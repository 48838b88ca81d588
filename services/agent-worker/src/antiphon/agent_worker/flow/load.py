"""Load a flow file: YAML to a checked `Flow`, or every problem with its file, line and place."""

from collections.abc import Iterator
from pathlib import Path as FilePath

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from antiphon.agent_worker.flow.check import Catalog, check_flow
from antiphon.agent_worker.flow.document import Document, FlowProblem, InvalidFlow, parse_yaml
from antiphon.agent_worker.flow.earlier import is_earlier, moved, upgraded
from antiphon.agent_worker.flow.intended import what_was_meant
from antiphon.agent_worker.flow.mistakes import schema_problem
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.suggest import few_suggestions

MAX_BYTES = 512 * 1024


def load_flow(source: FilePath | str, catalog: Catalog, *, name: str = "flow") -> Flow:
    """Load a flow from a file (a Path) or from YAML text (a str; `name` replaces the file name in errors).

    `catalog` has the providers, tools and secrets that a flow may name. Raises InvalidFlow with every problem
    found.
    """
    return checked_flow(read_document(source, name=name), catalog)


def read_document(source: FilePath | str, *, name: str = "flow") -> Document:
    """Read a flow file in the format of today; one of the earlier format is upgraded. Raises InvalidFlow."""
    text, file = (_read(source), str(source)) if isinstance(source, FilePath) else (source, name)
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        reason = f"larger than {MAX_BYTES // 1024} KiB, the limit of a flow"
        raise InvalidFlow([FlowProblem(file, 1, "", reason)])
    document = parse_yaml(text, file=file)
    if is_earlier(document.data):
        document.move(upgraded(document.data), moved)
    return document


def parse_flow(document: Document) -> Flow:
    """Return the flow of a document; the names in it are not checked. Raises InvalidFlow."""
    try:
        return Flow.model_validate(document.data)
    except ValidationError as error:
        raise InvalidFlow([schema_problem(document, details) for details in error.errors()]) from error


def checked_flow(document: Document, catalog: Catalog) -> Flow:
    """Return the flow of a document. Raises InvalidFlow with every problem found.

    Where it is clear what a mistake was meant to be, the rest is checked as if it had been written.
    """
    with few_suggestions():
        return _checked(document, catalog)


def _checked(document: Document, catalog: Catalog) -> Flow:
    try:
        flow = Flow.model_validate(document.data)
    except ValidationError as error:
        errors = error.errors()
        problems = [schema_problem(document, details) for details in errors]
        raise InvalidFlow([*problems, *_others(document, errors, catalog)]) from error
    if faults := check_flow(flow, catalog):
        raise InvalidFlow([document.problem(path, reason) for path, reason in faults])
    return flow


def _others(document: Document, errors: list[ErrorDetails], catalog: Catalog) -> Iterator[FlowProblem]:
    """Yield the problems that a flow would have without its errors of the schema."""
    intended = what_was_meant(document.data, errors)
    if intended is None:
        return
    try:
        flow = Flow.model_validate(intended.data)
    except ValidationError:
        return
    for path, reason in check_flow(flow, catalog):
        if (place := intended.given(path)) is not None:
            yield document.problem(place, reason)


def _read(path: FilePath) -> str:
    def fails(line: int, reason: str) -> InvalidFlow:
        return InvalidFlow([FlowProblem(str(path), line, "", f"cannot be read: {reason}")])

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 4)  # the rest of one that is too large is not needed
    except OSError as error:
        raise fails(1, error.strerror or str(error)) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if len(data) > MAX_BYTES:  # it may have been cut in a character
            return data.decode(errors="replace")
        line = data.count(b"\n", 0, error.start) + 1
        raise fails(line, f"the byte 0x{data[error.start]:02x} is not UTF-8: save it as UTF-8") from error
