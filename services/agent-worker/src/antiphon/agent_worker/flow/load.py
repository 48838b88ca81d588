"""Load a flow file: YAML to a checked `Flow`, or every problem with its file, line and place.

Plain scalars follow YAML 1.2: `yes` and `no` are strings, and `7:30` is not a number.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from antiphon.agent_worker.flow.check import Path, ProviderCatalog, check_flow
from antiphon.agent_worker.flow.model import PATTERNS, Flow

_INTEGER = re.compile(r"[-+]?[0-9]+")
_REAL = re.compile(r"[-+]?[0-9]*\.[0-9]+|[-+]?[0-9]+\.[0-9]*")
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # twenty times as fast, or portable
_MAX_DEPTH = 50
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True, order=True)
class FlowProblem:
    """One error in a flow file: the file, the line (from 1), the place within the flow, the reason."""

    file: str
    line: int
    place: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        return f"{self.file}:{self.line}: {place}{self.reason}"


class InvalidFlow(ValueError):
    """The flow file has errors; `problems` lists them in the order of their lines."""

    def __init__(self, problems: list[FlowProblem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(slots=True)
class Document:
    """A parsed YAML text: plain data, and the line of each part of it."""

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)

    def problem(self, path: Path, reason: str) -> FlowProblem:
        """Return a problem at the line of `path`, or of its nearest ancestor that is in the file."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return FlowProblem(self.file, self.lines.get(known, 1), _dotted(path), reason)


def load_flow(source: FilePath | str, catalog: ProviderCatalog, *, name: str = "flow") -> Flow:
    """Load a flow from a file (a Path) or from YAML text (a str; `name` replaces the file name in errors).

    `catalog` has the providers that a flow may name. Raises InvalidFlow with every problem found.
    """
    if isinstance(source, FilePath):
        document = parse_yaml(_read(source), file=str(source))
    else:
        document = parse_yaml(source, file=name)
    try:
        flow = Flow.model_validate(document.data)
    except ValidationError as error:
        raise InvalidFlow([_schema_problem(document, details) for details in error.errors()]) from error
    if faults := check_flow(flow, catalog):
        raise InvalidFlow([document.problem(path, reason) for path, reason in faults])
    return flow


def _read(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFlow([FlowProblem(str(path), 1, "", f"cannot be read: {error}")]) from error


def _schema_problem(document: Document, details: ErrorDetails) -> FlowProblem:
    path = tuple(step for step in details["loc"] if step != "[key]")
    if details["type"] == "string_pattern_mismatch":
        return document.problem(path, f"{details['input']!r} is not {PATTERNS[details['ctx']['pattern']]}")
    return document.problem(path, details["msg"][0].lower() + details["msg"][1:])


def parse_yaml(text: str, *, file: str) -> Document:
    """Parse YAML text and record the line of each part. Raises InvalidFlow."""
    document = Document(file)
    try:
        for line, reason in _unsupported(text):
            raise InvalidFlow([FlowProblem(file, line, "", reason)])
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"not valid YAML: {error.problem or error}"
        raise InvalidFlow([FlowProblem(file, mark.line + 1 if mark else 1, "", reason)]) from error
    except yaml.YAMLError as error:
        raise InvalidFlow([FlowProblem(file, 1, "", f"not valid YAML: {error}")]) from error
    if root is None:
        raise InvalidFlow([FlowProblem(file, 1, "", "the file is empty")])
    document.data = _construct(root, (), document)
    return document


def _unsupported(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of YAML that a flow may not have. Raises YAMLError."""
    depth = 0
    for token in yaml.scan(text, Loader=_LOADER):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:  # before compose(), which recurses
            yield token.start_mark.line + 1, f"nested more than {_MAX_DEPTH} levels deep"
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            yield token.start_mark.line + 1, "anchors and aliases are not supported"


def _construct(node: yaml.Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*path, index), document) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # compose() returns only these three kinds
    return _construct_scalar(node)


def _construct_mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in data:
            raise InvalidFlow([FlowProblem(document.file, line, _dotted((*path, key)), "duplicate key")])
        document.lines[*path, key] = line
        data[key] = _construct(value_node, (*path, key), document)
    return data


def _construct_scalar(node: yaml.ScalarNode) -> Any:
    value = str(node.value)
    if node.style:  # quoted and block scalars are always strings
        return value
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _REAL.fullmatch(value) else value


def _dotted(path: Path) -> str:
    """Format a path as `agents.host.rules[2].say`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
