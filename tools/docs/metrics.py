"""List every metric of the services: `python -m tools.docs.metrics`; the page of metrics is made of it."""

from importlib import import_module
from typing import Final, NamedTuple

from antiphon.chassis.metrics import AtMost, Instrument, declared

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
    "antiphon.chassis.postgres_metrics": ("session-api", "persistence"),
    "antiphon.recorder.metrics": ("agent-worker",),
    "antiphon.session_api.metrics": ("session-api",),
    "antiphon.webhook_ingest.metrics": ("webhook-ingest",),
    "antiphon.agent_worker.metrics": ("agent-worker",),
    "antiphon.fleet.metrics": ("fleet",),
    "antiphon.persistence.metrics": ("persistence",),
}


class Listed(NamedTuple):
    """A metric, the services that serve it, and what each label can be, in words."""

    metric: Instrument
    services: tuple[str, ...]
    labels: dict[str, str]


def catalogue() -> list[Listed]:
    """Return the metrics of all services, by name."""
    services: dict[str, tuple[str, ...]] = {}
    for place, serving in PLACES.items():
        module = import_module(place)
        own = [value for value in vars(module).values() if isinstance(value, Instrument)]
        services |= dict.fromkeys((metric.name for metric in own), serving)
    # those that a test has declared are of no service
    found = [metric for metric in declared() if metric.name in services]
    return [Listed(metric, services[metric.name], _labels(metric)) for metric in found]


def _labels(metric: Instrument) -> dict[str, str]:
    return {
        label: f"{allowed.what}; at most {allowed.limit}, others are `_OTHER`"
        if isinstance(allowed, AtMost)
        else ", ".join(f"`{value}`" for value in allowed)
        for label, allowed in metric.labels.items()
    }


if __name__ == "__main__":
    for listed in catalogue():
        metric = listed.metric
        unit = f" {metric.unit}" if metric.unit else ""
        print(f"{metric.prometheus_name}: {metric.kind}{unit} of {', '.join(listed.services)}")
        print(f"    {metric.description}")
        for label, values in listed.labels.items():
            print(f"    {label.replace('.', '_')}: {values}")
