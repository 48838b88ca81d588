"""A YAML text as plain data, with the line of everything in it.

Plain scalars follow YAML 1.2: `yes` and `no` are words here, and `7:30` is not a number.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from antiphon.agent_worker.flow.problems import FlowProblem, InvalidFlow, Path, spell

_INTEGER = re.compile(r"[-+]?[0-9]+")
_REAL = re.compile(r"[-+]?[0-9]*\.[0-9]+|[-+]?[0-9]+\.[0-9]*")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(slots=True)
class Document:
    """A parsed flow file: its data and the line at which each part of it stands."""

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)

    def problem(self, path: Path, reason: str) -> FlowProblem:
        """Place a reason at the nearest line that is known for the path."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return FlowProblem(self.file, self.lines.get(known, 1), spell(path), reason)


def read_document(text: str, *, file: str) -> Document:
    """Parse YAML and keep the line marks. Raises InvalidFlow."""
    document = Document(file)
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
                line = token.start_mark.line + 1
                raise InvalidFlow([FlowProblem(file, line, "", "anchors and aliases are not part of a flow")])
        root = yaml.compose(text, Loader=yaml.SafeLoader)
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


def _construct(node: yaml.Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*path, index), document) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # composing yields these three kinds only
    return _construct_scalar(node)


def _construct_mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in data:
            problem = FlowProblem(document.file, line, spell((*path, key)), "stands here a second time")
            raise InvalidFlow([problem])
        document.lines[*path, key] = line
        data[key] = _construct(value_node, (*path, key), document)
    return data


def _construct_scalar(node: yaml.ScalarNode) -> Any:
    value = str(node.value)
    if node.style is not None:  # quoted or block text is always text
        return value
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _REAL.fullmatch(value) else value
