"""Counters, gauges and histograms in plain numbers, at a tenth of the cost of the OpenTelemetry SDK."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from operator import add
from typing import Any, ClassVar, Literal

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.metrics.labels import Allowed, AtMost, Instrument, Kind, Values

log = get_logger(__name__)

ZEROED = 64  # series of a counter that exist from the start: else the first increase is not seen as one

Readings = float | Mapping[Values, float]
Combine = Literal["sum", "min", "max"]
_COMBINE: Mapping[Combine, Callable[[float, float], float]] = {"sum": add, "min": min, "max": max}


class Counter(Instrument):
    """A number that only grows."""

    kind: ClassVar[Kind] = "counter"

    def __init__(self, name: str, **declaration: Any) -> None:
        super().__init__(name, **declaration)
        self._values: dict[Values, float] = {}
        allowed = [values for values in self.labels.values() if not isinstance(values, AtMost)]
        if len(allowed) == len(self.labels) and prod(map(len, allowed)) <= ZEROED:
            self._values = dict.fromkeys(product(*allowed), 0)

    def add(self, amount: float = 1, *labels: str) -> None:
        """Count; `labels` are the values of the labels, in the order of the declaration."""
        try:
            self._values[labels] += amount
        except KeyError:
            admitted = self.admitted(labels)
            self._values[admitted] = self._values.get(admitted, 0) + amount

    def series(self) -> list[tuple[Values, float]]:
        """Return the value of each series."""
        return list(self._values.items())


class Gauge(Instrument):
    """A number that goes up and down: it is set, or read from what knows it when it is asked for."""

    kind: ClassVar[Kind] = "gauge"

    def __init__(self, name: str, *, combine: Combine = "sum", **declaration: Any) -> None:
        super().__init__(name, **declaration)
        self._combine = _COMBINE[combine]
        self._values: dict[Values, float] = {}
        self._reading: dict[int, Callable[[], Readings]] = {}
        self._next = 0

    def set(self, value: float, *labels: str) -> None:
        """Set the value of a series."""
        if labels in self._values:
            self._values[labels] = +value
        else:
            self._values[self.admitted(labels)] = +value

    def remove(self, *labels: str) -> None:
        """End a series that nothing will set again."""
        self._values.pop(labels, None)

    def watch(self, read: Callable[[], Readings]) -> Callable[[], None]:
        """Read a value, or that of each series, whenever the gauge is read; return a function that ends it.

        Values that several give for one series are combined as the gauge says.
        """
        number = self._next = self._next + 1
        self._reading[number] = read

        def end() -> None:
            self._reading.pop(number, None)

        return end

    def series(self) -> list[tuple[Values, float]]:
        """Return the value of each series; one that cannot be read is left out, and logged."""
        found = dict(self._values)
        for read in tuple(self._reading.values()):
            for labels, value in self._read(read):
                before = found.get(labels)
                found[labels] = value if before is None else self._combine(before, value)
        return list(found.items())

    def _read(self, read: Callable[[], Readings]) -> Iterator[tuple[Values, float]]:
        try:
            readings = read()
            if not isinstance(readings, Mapping):
                readings = {(): readings}
            # `+` makes a number of True: OTLP has no truth values, and refuses the whole batch
            admitted = [(self.admitted(labels), +value) for labels, value in readings.items()]
        except Exception:  # the other metrics are needed most when something is wrong
            log.exception("metrics.not_read", extra={"metric": self.name})
            return
        yield from admitted


class Distribution:
    """How many values fell between each two bounds, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0


class Histogram(Instrument):
    """The distribution of a quantity over fixed bounds."""

    kind: ClassVar[Kind] = "histogram"

    def __init__(self, name: str, *, bounds: Sequence[float], **declaration: Any) -> None:
        super().__init__(name, **declaration)
        self.bounds = tuple(bounds)
        self._values: dict[Values, Distribution] = {}
        # in a process without our exporter: the histogram of OpenTelemetry's API
        self.elsewhere: Callable[[float, dict[str, str]], None] | None = None
        if not self.labels:
            self._values[()] = Distribution(self.bounds)

    def record(self, value: float, *labels: str) -> None:
        """Record one value; `labels` are the values of the labels, in the order of the declaration."""
        found = self._values.get(labels)
        if found is None:
            found = self.distribution(labels)
        found.counts[bisect_left(self.bounds, value)] += 1
        found.sum += value
        if self.elsewhere is not None:
            self.elsewhere(value, self.attributes(self.admitted(labels)))

    def distribution(self, labels: Values) -> Distribution:
        """Return the series of these labels; it is made if it is the first time."""
        admitted = self.admitted(labels)
        found = self._values.get(admitted)
        if found is None:
            found = self._values[admitted] = Distribution(self.bounds)
        return found

    def series(self) -> list[tuple[Values, Distribution]]:
        """Return the distribution of each series."""
        return list(self._values.items())


def counter(
    name: str, *, unit: str = "", description: str, labels: Mapping[str, Allowed] | None = None
) -> Counter:
    """Declare a counter. Raises ValueError if its name is taken."""
    return Counter(name, unit=unit, description=description, labels=labels)


def gauge(
    name: str,
    *,
    unit: str = "",
    description: str,
    labels: Mapping[str, Allowed] | None = None,
    combine: Combine = "sum",
) -> Gauge:
    """Declare a gauge; what several say is added, or the smallest or largest. Raises as `counter`."""
    return Gauge(name, combine=combine, unit=unit, description=description, labels=labels)


def histogram(
    name: str,
    *,
    unit: str = "s",
    description: str,
    bounds: Sequence[float],
    labels: Mapping[str, Allowed] | None = None,
) -> Histogram:
    """Declare a histogram with the upper bounds of its buckets. Raises as `counter`."""
    return Histogram(name, bounds=bounds, unit=unit, description=description, labels=labels)
