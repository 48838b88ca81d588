"""Metrics: declared once, with their meaning and bounded labels; plain numbers, read when asked for."""

from antiphon.chassis.metrics.instruments import Counter, Gauge, Histogram, counter, gauge, histogram
from antiphon.chassis.metrics.labels import OTHER, AtMost, Instrument, declared

__all__ = [
    "OTHER",
    "AtMost",
    "Counter",
    "Gauge",
    "Histogram",
    "Instrument",
    "counter",
    "declared",
    "gauge",
    "histogram",
]
