"""Spans that are kept in memory when they end."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def keep_spans(monkeypatch: pytest.MonkeyPatch, *tracing: object) -> InMemorySpanExporter:
    """Record spans, also in modules that ask whether to; return where they are kept."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    for module in tracing:
        monkeypatch.setattr(module, "enabled", lambda: True)
    return exporter
