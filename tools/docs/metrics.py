"""Print docs/reference/metrics.md, from the declarations: `python -m tools.docs.metrics [--check FILE]`.

The prose is in metrics.txt; a line `<!-- metrics: MODULE … -->` of it becomes the table of their metrics.
"""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from tools.docs.generated import print_or_check

from antiphon.chassis.metrics import AtMost, Histogram, Instrument, declared

# The modules with declarations, and the services that serve them.
PLACES: Final = {
    "antiphon.chassis.http.metrics": ("session-api", "webhook-ingest"),
    "antiphon.chassis.bus.metrics": (
        "session-api",
        "webhook-ingest",
        "agent-worker",
        "persistence",
        "fleet",
    ),
    "antiphon.chassis.health_metrics": (
        "session-api",
        "webhook-ingest",
        "agent-worker",
        "persistence",
        "fleet",
    ),
    "antiphon.chassis.postgres_metrics": ("session-api", "persistence"),
    "antiphon.recorder.metrics": ("agent-worker",),
    "antiphon.session_api.metrics": ("session-api",),
    "antiphon.webhook_ingest.metrics": ("webhook-ingest",),
    "antiphon.agent_worker.metrics": ("agent-worker",),
    "antiphon.fleet.metrics": ("fleet",),
    "antiphon.persistence.metrics": ("persistence",),
}

TEMPLATE: Final = Path(__file__).with_suffix(".txt")
MARK: Final = re.compile(r"^<!-- metrics: (.+) -->$", re.MULTILINE)
COMMAND: Final = "python -m tools.docs.metrics > docs/reference/metrics.md"


class Listed(NamedTuple):
    """A metric, the services that serve it, and what each label can be, in words."""

    metric: Instrument
    services: tuple[str, ...]
    labels: dict[str, str]
    module: str


def catalogue() -> list[Listed]:
    """Return the metrics of all services, by name."""
    places: dict[str, str] = {}
    for place in PLACES:
        own = [value for value in vars(import_module(place)).values() if isinstance(value, Instrument)]
        places |= dict.fromkeys((metric.name for metric in own), place)
    # those that a test has declared are of no service
    found = [metric for metric in declared() if metric.name in places]
    return [
        Listed(metric, PLACES[places[metric.name]], _labels(metric), places[metric.name]) for metric in found
    ]


def _labels(metric: Instrument) -> dict[str, str]:
    return {
        label: f"{allowed.what}; at most {allowed.limit}, others are `_OTHER`"
        if isinstance(allowed, AtMost)
        else _values(allowed)
        for label, allowed in metric.labels.items()
    }


def _values(allowed: tuple[str, ...]) -> str:
    if allowed == tuple(map(str, range(len(allowed)))):
        return f"`0` to `{allowed[-1]}`"
    return ", ".join(f"`{value}`" if value else "none" for value in allowed)


def page() -> str:
    """Return the page: the prose of metrics.txt, with a table where it names modules."""
    listed = catalogue()

    def table(match: re.Match[str]) -> str:
        modules = match[1].split()
        if unknown := set(modules) - set(PLACES):
            raise ValueError(f"{TEMPLATE.name} names {unknown.pop()}, which is no place of metrics")
        return "\n".join(_table([found for found in listed if found.module in modules]))

    template = TEMPLATE.read_text()
    text = MARK.sub(table, template)
    named = " ".join(MARK.findall(template)).split()
    for rest in [module for module in PLACES if module not in named]:
        rows = [found for found in listed if found.module == rest]
        text += f"\n## {rest}\n\n" + "\n".join(_table(rows)) + "\n"
    return f"<!-- generated: {COMMAND} -->\n{text}"


def _table(rows: list[Listed]) -> Iterator[str]:
    yield "| OpenTelemetry and Prometheus name | kind | labels | served by | what it says |"
    yield "|---|---|---|---|---|"
    for metric, services, labels, _ in rows:
        unit = f", {metric.unit}" if metric.unit else ""
        if isinstance(metric, Histogram):
            unit += f", {len(metric.bounds)} buckets from {metric.bounds[0]:g} to {metric.bounds[-1]:g}"
        values = "; ".join(f"`{label.replace('.', '_')}`: {what}" for label, what in labels.items())
        words = metric.description.rstrip(".").replace("|", "\\|")
        yield (
            f"| `{metric.name}` `{metric.prometheus_name}` | {metric.kind}{unit} | {values} "
            f"| {', '.join(sorted(services))} | {words} |"
        )


if __name__ == "__main__":
    sys.exit(print_or_check("tools.docs.metrics", page(), "the declared metrics"))
