"""Sketches of latencies: counts of values in bins whose sums are the sketch of all values together.

The bins are those of DDSketch with a relative error of 1 %: quantiles of merged sketches are as right as
those of one, which averages of percentiles are not.
"""

from collections.abc import Mapping

from ddsketch.mapping import LogarithmicMapping

from antiphon.contracts.views import SKETCH_ACCURACY

SHORTEST_MS, LONGEST_MS = 1.0, 86_400_000.0  # others count as these, which bounds the number of bins

_key = LogarithmicMapping(SKETCH_ACCURACY).key


def with_value(bins: Mapping[str, int], milliseconds: object) -> Mapping[str, int]:
    """Return a sketch with one more value, its bins in order; what is no duration changes nothing."""
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return bins
    if not milliseconds >= 0:  # nor is NaN
        return bins
    key = str(_key(float(min(max(milliseconds, SHORTEST_MS), LONGEST_MS))))
    if key in bins:
        return {**bins, key: bins[key] + 1}
    return dict(sorted({**bins, key: 1}.items(), key=lambda entry: int(entry[0])))


def milliseconds_of(seconds: object) -> object:
    """Return seconds in milliseconds; anything that is not a number as it is."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return min(seconds, LONGEST_MS) * 1000
    return seconds
