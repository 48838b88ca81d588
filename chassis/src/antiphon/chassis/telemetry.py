"""Logs and the export of traces, set up for a service."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.chassis.logs import configure_logs
from antiphon.chassis.settings import EXIT_BAD_SETTINGS, LogSettings

if TYPE_CHECKING:
    from antiphon.chassis.span_export import SpanExport

_ends: list[Callable[[], None]] = []  # of what sends metrics

FLUSH_SECONDS = 2.0  # at the end of a process, then the remaining spans and metrics are lost
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTERS = ("otlp", "console")

_export: "SpanExport | None" = None  # of this process


def configure(service: str, settings: LogSettings, *, push_metrics: bool = True) -> None:
    """Set up logs and traces, and metrics that are sent, for this process; call it once, first.

    Exits with 2 when OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER or the queue of spans is wrong.
    """
    exporter = _chosen_exporter()  # first: it may exit, and then nothing is set up
    pushes = _pushes_metrics()
    configure_logs(service, settings)
    if exporter is not None:
        # Imported only where traces are exported: the SDK slows down the start of every process and job.
        from antiphon.chassis.span_export import SpanExport

        global _export  # noqa: PLW0603 - as OpenTelemetry's provider, there is one in a process
        try:
            _export = SpanExport(service, settings, exporter)
        except ValueError as error:
            print(f"OTEL_BSP_… is not valid: {error}", file=sys.stderr)  # noqa: T201 - as every invalid setting
            raise SystemExit(EXIT_BAD_SETTINGS) from None
        _export.start()
    if pushes and push_metrics:
        from antiphon.chassis.metrics.opentelemetry import push

        _ends.append(push(service))
    gc.freeze()  # no collection looks at what was imported here, which `process.run` has not seen


def flush() -> None:
    """Export the remaining spans and metrics before the process ends, within seconds."""
    # Threads of their own: the SDK waits as long as its exporters, which retry.
    ends = [*_ends, *(() if _export is None else (_export.end,))]
    _ends.clear()
    ending = [threading.Thread(target=end, name="flush telemetry", daemon=True) for end in ends]
    for thread in ending:
        thread.start()
    deadline = time.monotonic() + FLUSH_SECONDS
    for thread in ending:
        thread.join(max(0.0, deadline - time.monotonic()))


def _pushes_metrics() -> bool:
    chosen = os.environ.get("OTEL_METRICS_EXPORTER", "none") or "none"
    if chosen in ("otlp", "none"):
        return chosen == "otlp" and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
    print(  # noqa: T201 - as every invalid setting
        f"OTEL_METRICS_EXPORTER is {chosen!r}: allowed are otlp, none; /metrics is always served",
        file=sys.stderr,
    )
    raise SystemExit(EXIT_BAD_SETTINGS)


def _chosen_exporter() -> str | None:
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if chosen == "none" or not (chosen or any(os.environ.get(name) for name in ENDPOINTS)):
        return None
    if chosen and chosen not in EXPORTERS:
        allowed = ", ".join((*EXPORTERS, "none"))
        print(  # noqa: T201 - as every invalid setting
            f"OTEL_TRACES_EXPORTER is {chosen!r}: allowed are {allowed}", file=sys.stderr
        )
        raise SystemExit(EXIT_BAD_SETTINGS)
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return None if off else chosen or EXPORTERS[0]
