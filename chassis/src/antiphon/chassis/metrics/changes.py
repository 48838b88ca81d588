"""What metrics have counted since they were last sent: so a process adds to the metrics of another."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from antiphon.chassis.metrics.instruments import Counter, Gauge, Histogram
from antiphon.chassis.metrics.labels import Instrument, Values


class Change(Struct, frozen=True, omit_defaults=True):
    """Counts and distributions since the last change, and the gauges as they are now, by name."""

    counters: dict[str, list[tuple[Values, float]]] = {}
    histograms: dict[str, list[tuple[Values, list[int], float]]] = {}  # counts and sum
    gauges: dict[str, float] = {}  # those without labels


class Changes:
    """The changes of some metrics of this process; what is taken is forgotten once it is `sent`."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._instruments = tuple(instruments)
        self._counted: dict[tuple[str, Values], float] = {}
        self._distributed: dict[tuple[str, Values], tuple[list[int], float]] = {}
        self.sent()  # a process starts with what it has inherited from the one that it was forked from

    def take(self) -> Change:
        """Return what has changed since the last `sent`."""
        change = Change(counters={}, histograms={}, gauges={})
        for instrument in self._instruments:
            name = instrument.name
            if isinstance(instrument, Counter):
                if counted := self._counts(instrument):
                    change.counters[name] = counted
            elif isinstance(instrument, Histogram):
                if distributed := self._distributions(instrument):
                    change.histograms[name] = distributed
            elif isinstance(instrument, Gauge):
                change.gauges.update((name, value) for values, value in instrument.series() if not values)
        return change

    def sent(self) -> None:
        """Start again: all that is counted until now was sent."""
        for instrument in self._instruments:
            if isinstance(instrument, Counter):
                self._counted |= {(instrument.name, values): now for values, now in instrument.series()}
            elif isinstance(instrument, Histogram):
                for values, now in instrument.series():
                    self._distributed[instrument.name, values] = list(now.counts), now.sum

    def _counts(self, counter: Counter) -> list[tuple[Values, float]]:
        before = self._counted
        counted = [(values, now - before.get((counter.name, values), 0)) for values, now in counter.series()]
        return [(values, more) for values, more in counted if more]

    def _distributions(self, histogram: Histogram) -> list[tuple[Values, list[int], float]]:
        changed = []
        for values, now in histogram.series():
            counts, total = self._distributed.get((histogram.name, values), ([0] * len(now.counts), 0.0))
            if now.counts != counts:
                difference = [count - before for count, before in zip(now.counts, counts, strict=True)]
                changed.append((values, difference, now.sum - total))
        return changed


def add(change: Change, instruments: Mapping[str, Instrument]) -> None:
    """Add the counts and distributions of another process to these metrics, by name; gauges are its own.

    What is of no metric, or does not fit it, is left out.
    """
    for name, counted in change.counters.items():
        if isinstance(counter := instruments.get(name), Counter):
            for values, number in counted:
                if len(values) == len(counter.labels) and number > 0:
                    counter.add(number, *values)
    for name, distributed in change.histograms.items():
        if isinstance(histogram := instruments.get(name), Histogram):
            for values, counts, total in distributed:
                _add_distribution(histogram, values, counts, total)


def _add_distribution(histogram: Histogram, values: Values, counts: Sequence[int], total: float) -> None:
    if len(values) != len(histogram.labels) or len(counts) != len(histogram.bounds) + 1:
        return
    found = histogram.distribution(values)
    found.counts = [before + more for before, more in zip(found.counts, counts, strict=True)]
    found.sum += total
