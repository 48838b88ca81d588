"""What a PromQL expression reads: the metrics and labels that it names, against those that exist."""

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
from tools.docs.metrics import catalogue

OF_A_TARGET = {"job", "instance"}
OF_PROMETHEUS = {
    "up": OF_A_TARGET,
    "ALERTS": {"alertname", "alertstate", "severity"},
    "ALERTS_FOR_STATE": {"alertname", "severity"},
}
# of prometheus_client, in every service
OF_A_PROCESS: dict[str, set[str]] = {
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
    "process_max_fds": set(),
    "process_start_time_seconds": set(),
    "python_gc_collections_total": {"generation"},
}
SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class Read:
    """A series that an expression reads: its name, and the labels that it selects by."""

    name: str
    labels: frozenset[str]


def series() -> dict[str, set[str]]:
    """Return the labels of each series that the services, and Prometheus itself, have."""
    found = dict(OF_PROMETHEUS)
    for name, labels in OF_A_PROCESS.items():
        found[name] = labels | OF_A_TARGET
    for metric, *_ in catalogue():
        labels = {label.replace(".", "_") for label in metric.labels} | OF_A_TARGET
        names = [metric.prometheus_name]
        if metric.kind == "histogram":
            names = [metric.prometheus_name + suffix for suffix in SUFFIXES]
        found |= {name: labels | ({"le"} if name.endswith("_bucket") else set()) for name in names}
    return found


def parse(expression: str) -> promql_parser.Expr:
    """Parse a query, with a value in place of the variables of Grafana. Raises ValueError."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def reads(expression: str) -> list[Read]:
    """Return what an expression reads. Raises ValueError if it is none."""
    found: list[Read] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            labels = frozenset(matcher.name for matcher in node.matchers.matchers)
            found.append(Read(node.name or "", labels))

    promql_parser.walk(parse(expression), pre_visit=visit)
    return found


def unknown(expression: str, recorded: dict[str, set[str]] | None = None) -> Iterator[str]:
    """Yield each metric and label that an expression names and that does not exist."""
    known = series() | (recorded or {})
    labels: set[str] = set()
    for read in reads(expression):
        if read.name not in known:
            yield read.name
            continue
        labels |= known[read.name]
        yield from (f"{read.name}{{{label}}}" for label in sorted(read.labels - known[read.name]))
    yield from (f"by ({label})" for label in sorted(_grouped(expression) - labels))


def _grouped(expression: str) -> set[str]:
    """Return the labels that an expression groups and matches by."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            found.update(node.modifier.matching.labels)

    promql_parser.walk(parse(expression), pre_visit=visit)
    return found
