"""The metrics of this process in OpenTelemetry: for the provider of a program that uses us, or by OTLP."""

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from antiphon.chassis.metrics.instruments import Counter, Gauge, Histogram
from antiphon.chassis.metrics.labels import declared

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricExporter

METER = "antiphon"

_bridged: set[str] = set()


def bridge(*, histograms: bool = True) -> None:
    """Show the declared metrics to the meter provider of this process, now or when it gets one.

    Without `histograms` they are left to an exporter that reads them (see `push`).
    """
    meter = metrics.get_meter(METER)
    for metric in declared():
        if metric.name in _bridged:
            continue
        _bridged.add(metric.name)
        about = {"unit": metric.unit, "description": metric.description}
        if isinstance(metric, Counter):
            meter.create_observable_counter(metric.name, [_observed(metric)], **about)
        elif isinstance(metric, Gauge):
            meter.create_observable_gauge(metric.name, [_observed(metric)], **about)
        elif isinstance(metric, Histogram) and histograms:
            bounds = list(metric.bounds)
            theirs = meter.create_histogram(metric.name, explicit_bucket_boundaries_advisory=bounds, **about)
            metric.elsewhere = theirs.record


def _observed(metric: Counter | Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, metric.attributes(values)) for values, value in metric.series()]

    return observe


def push(service: str) -> Callable[[], None]:
    """Send the metrics by OTLP from now on, as OpenTelemetry's variables say; return what ends it.

    Call it once, after the modules that declare metrics are imported.
    """
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    exporter = _with_histograms(OTLPMetricExporter())
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", service)})
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter)],
        resource=resource,
        shutdown_on_exit=False,  # it would wait for half a minute
    )
    metrics.set_meter_provider(provider)
    bridge(histograms=False)
    return provider.shutdown


def _with_histograms(exporter: "MetricExporter") -> "MetricExporter":
    """Return an exporter that adds the histograms, which OpenTelemetry's API cannot read from a callback."""
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

    started = time.time_ns()

    class WithHistograms(MetricExporter):
        def export(
            self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any
        ) -> MetricExportResult:
            scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
            own = next((scope for scope in scopes if scope.scope.name == METER), None)
            if own is not None:
                own.metrics.extend(_histograms(started))  # type: ignore[attr-defined] # the SDK makes a list
            return exporter.export(metrics_data, timeout_millis, **more)

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return exporter.force_flush(timeout_millis)

        def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
            exporter.shutdown(timeout_millis, **more)

    return WithHistograms()


def _histograms(started: int) -> "Iterable[Metric]":
    from opentelemetry.sdk.metrics import export

    now = time.time_ns()
    for metric in declared():
        if not isinstance(metric, Histogram):
            continue
        points = [
            export.HistogramDataPoint(
                attributes=metric.attributes(values),
                start_time_unix_nano=started,
                time_unix_nano=now,
                count=sum(distribution.counts),
                sum=distribution.sum,
                bucket_counts=list(distribution.counts),
                explicit_bounds=metric.bounds,
                min=None,  # type: ignore[arg-type] # optional in the protocol, and not known
                max=None,  # type: ignore[arg-type]
            )
            for values, distribution in metric.series()
        ]
        data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
        yield export.Metric(metric.name, metric.description, metric.unit, data)
