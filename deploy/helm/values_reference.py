"""The page of the chart's values, made from values.yaml and its comments.

python -m deploy.helm.values_reference > docs/reference/helm-values.md
python -m deploy.helm.values_reference --check docs/reference/helm-values.md
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tools.docs.generated import print_or_check

VALUES = Path(__file__).parent / "antiphon" / "values.yaml"
MARK = "# -- "
EXPLAINED_AT = "sessionApi"  # the first block of a service; the others have the same keys
SERVICES = ("webhookIngest", "persistence", "projections", "agentWorker", "fleet")
LONGEST_DEFAULT = 60
HEAD = """\
<!-- generated: python -m deploy.helm.values_reference > docs/reference/helm-values.md -->
# Values of the Helm chart

All values of [`deploy/helm/antiphon`](../../deploy/helm/antiphon/values.yaml); [how to run it on
Kubernetes](../how-to/run-on-kubernetes.md). A value that does not exist, is of a wrong type or does not
fit to another one is refused before anything is installed. Names of Secrets and the URLs of `nats` and
`livekit` may be templates, such as `{{ .Release.Name }}-nats`.
"""


class Undocumented(Exception):
    """A value has no comment."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its path, its default, and the comment above it."""

    path: tuple[str, ...]
    default: Any
    comment: str


def read_values(text: str) -> list[Value]:
    """Return the values with a comment, or without keys below them. Raises Undocumented."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    lines = text.splitlines()
    found = list(_visit(node, (), lines))
    explained = {value.path[1:]: value.comment for value in found if value.path[0] == EXPLAINED_AT}
    whole = []
    for value in found:
        comment = value.comment
        if not comment and value.path[0] in SERVICES:
            comment = explained.get(value.path[1:], "")
        if not comment:
            raise Undocumented(f"{VALUES.name}: {'.'.join(value.path)} has no comment {MARK!r}")
        whole.append(Value(value.path, value.default, comment))
    return whole


def _visit(node: yaml.MappingNode, path: tuple[str, ...], lines: Sequence[str]) -> Iterator[Value]:
    for key, value in node.value:
        below = (*path, key.value)
        comment = _comment_above(key.start_mark.line, lines)
        if isinstance(value, yaml.MappingNode) and value.value and not comment and not value.flow_style:
            yield from _visit(value, below, lines)
        else:
            yield Value(below, yaml.SafeLoader("").construct_object(value, deep=True), comment)


def _comment_above(line: int, lines: Sequence[str]) -> str:
    above: list[str] = []
    for number in range(line - 1, -1, -1):
        text = lines[number].strip()
        if not text.startswith("#"):
            return ""
        if text.startswith(MARK):
            return " ".join([text.removeprefix(MARK), *reversed(above)])
        above.append(text.removeprefix("#").strip())
    return ""


def render(values: Sequence[Value]) -> str:
    """Return the page."""
    parts = [HEAD]
    block = ""
    for value in values:
        heading = value.path[0] if len(value.path) > 1 else "names and labels"
        if heading != block:
            block = heading
            parts.append(f"\n## `{block}`\n\n| value | default | what it is |\n|---|---|---|\n")
        name = ".".join(value.path)
        parts.append(f"| `{name}` | {_default(value.default)} | {_cell(value.comment)} |\n")
    return "".join(parts)


def _default(value: Any) -> str:
    if value in (None, ""):
        return ""
    text = json.dumps(value) if not isinstance(value, str) else value
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see the file"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    page = render(read_values(VALUES.read_text()))
    sys.exit(print_or_check("deploy.helm.values_reference", page, VALUES.name))
