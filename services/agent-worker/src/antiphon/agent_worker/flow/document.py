"""A flow file as a document: YAML to plain data, and the line of each part of it.

Plain scalars follow YAML 1.2: `yes` and `no` are strings, and `7:30` is not a number.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from antiphon.agent_worker.flow.names import Path, dotted
from antiphon.agent_worker.flow.traps import yaml_hint

# 012, +49 and numbers that are longer are texts: as a number, a telephone number loses its first characters
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"-?[0-9]{0,17}\.[0-9]{1,17}|-?[0-9]{1,17}\.")
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # twenty times as fast, or portable
_MAX_DEPTH = 50
_MERGE = "<<"
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
        return FlowProblem(self.file, self.lines.get(known, 1), dotted(path), reason)

    def at(self, path: Path) -> Any:
        """Return what is given at a path, None for nothing."""
        value = self.data
        for step in path:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value

    def move(self, data: Any, moved: Callable[[Path], Path]) -> None:
        """Replace the data by the same in another form; the lines of its parts stay."""
        self.data = data
        self.lines = {moved(path): line for path, line in self.lines.items()}


def parse_yaml(text: str, *, file: str) -> Document:
    """Parse YAML text and record the line of each part. Raises InvalidFlow."""
    document = Document(file)
    if strange := _NOT_TEXT.search(text):
        line, code = text.count("\n", 0, strange.start()) + 1, ord(strange[0])
        reason = f"not valid YAML: the character U+{code:04X} is not allowed: remove it"
        raise InvalidFlow([FlowProblem(file, line, "", reason)])
    try:
        if found := dict(_unsupported(text)):
            raise InvalidFlow([FlowProblem(file, line, "", reason) for line, reason in found.items()])
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = f"not valid YAML: {error.problem or error}{yaml_hint(text, line)}"
        raise InvalidFlow([FlowProblem(file, line, "", reason)]) from error
    except yaml.YAMLError as error:
        raise InvalidFlow([FlowProblem(file, 1, "", f"not valid YAML: {error}")]) from error
    if root is None:
        raise InvalidFlow([FlowProblem(file, 1, "", "the file is empty")])
    problems: list[FlowProblem] = []
    document.data = _construct(root, (), document, problems)
    if problems:
        raise InvalidFlow(problems)
    return document


def _unsupported(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of YAML that a flow may not have. Raises YAMLError."""
    depth = 0
    for token in yaml.scan(text, Loader=_LOADER):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:  # before compose(), which recurses
            yield token.start_mark.line + 1, f"nested more than {_MAX_DEPTH} levels deep"
            return
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            yield token.start_mark.line + 1, "anchors and aliases are not supported: write the value again"
        if isinstance(token, yaml.TagToken):
            yield (
                token.start_mark.line + 1,
                "tags are not supported: write the value without what begins with !",
            )


def _construct(node: yaml.Node, path: Path, document: Document, problems: list[FlowProblem]) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, document, problems)
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(child, (*path, index), document, problems) for index, child in enumerate(node.value)
        ]
    assert isinstance(node, yaml.ScalarNode)  # compose() returns only these three kinds
    return _construct_scalar(node)


def _construct_mapping(
    node: yaml.MappingNode, path: Path, document: Document, problems: list[FlowProblem]
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            reason = "a key is a word; a text that starts with { or [ needs quotes"
            problems.append(FlowProblem(document.file, line, dotted(path), reason))
            continue
        key = str(key_node.value)
        place: Path = (*path, key)
        if key == _MERGE:
            reason = "merge keys are not supported: write the keys themselves"
        elif key in data:
            reason = f"duplicate key: it is in line {document.lines[place]} too"
        else:
            document.lines[place] = line
            data[key] = _construct(value_node, place, document, problems)
            continue
        problems.append(FlowProblem(document.file, line, dotted(place), reason))
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
