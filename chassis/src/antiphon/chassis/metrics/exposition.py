"""The metrics of this process as Prometheus reads them, with those of the process itself."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from antiphon.chassis.metrics.instruments import Counter, Gauge, Histogram
from antiphon.chassis.metrics.labels import Instrument, declared

_names: dict[str, str] = {}  # of labels


class _Declared(Collector):
    """All declared metrics; those without a series have their help and no sample."""

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its series."""
        for instrument in declared():
            yield _metric(instrument)


def _metric(instrument: Instrument) -> Metric:
    name = instrument.prometheus_name.removesuffix("_total")
    metric = Metric(name, instrument.description, instrument.kind, instrument.prometheus_unit)
    if isinstance(instrument, Histogram):
        for values, distribution in instrument.series():
            labels, seen = _labels(instrument, values), 0
            bounds = (*map(str, map(float, instrument.bounds)), "+Inf")
            for bound, count in zip(bounds, distribution.counts, strict=True):
                seen += count
                metric.add_sample(f"{name}_bucket", {**labels, "le": bound}, seen)
            metric.add_sample(f"{name}_count", labels, seen)
            metric.add_sample(f"{name}_sum", labels, distribution.sum)
    elif isinstance(instrument, Counter | Gauge):
        for values, value in instrument.series():
            metric.add_sample(instrument.prometheus_name, _labels(instrument, values), value)
    return metric


def _labels(instrument: Instrument, values: tuple[str, ...]) -> dict[str, str]:
    return {
        _names.setdefault(label, label.replace(".", "_")): value
        for label, value in instrument.attributes(values).items()
    }


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Declared())
    return registry


REGISTRY: Final = _registry()


def encoded(accept: str) -> tuple[bytes, str]:
    """Return the metrics and their media type: the text of Prometheus, or OpenMetrics if it is asked for."""
    encode: Callable[[Collector], bytes]
    encode, media_type = choose_encoder(accept)
    return encode(REGISTRY), media_type
