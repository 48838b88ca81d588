"""How the views of figures count: for which day and flow, each turn once, and latencies as sketches.

A sketch has the counts of values in the bins of a DDSketch with a relative error of 1 %. The sums of several
are the sketch of all values together: quantiles are as right as those of one, which averages are not.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence

from ddsketch.mapping import LogarithmicMapping
from sqlalchemy import Boolean, Column, Date, Table

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.views import SKETCH_ACCURACY, indexed, utc_day
from antiphon.persistence.projection import Document, Name, Row, required, views

SHORTEST_MS, LONGEST_MS = 1.0, 86_400_000.0  # others count as these, which bounds the number of bins
MAX_EPOCHS = 64
MAX_RANGES = 200  # of one epoch; then the lowest numbers that are missing count as counted

Ranges = Sequence[Sequence[int]]  # [first, last], in order, with a gap between each two

_bin = LogarithmicMapping(SKETCH_ACCURACY).key


def notes(name: str, **noted: object) -> Table:
    """Return the table of what a view notes of each session: what `begin` sets, and the defaults of the rest.

    A column whose default is a boolean is one; others are documents.
    """
    columns = [
        required(column, Boolean, default=default)
        if isinstance(default, bool)
        else Column(column, Document, default=default)
        for column, default in noted.items()
    ]
    return Table(
        name,
        views,
        required("session_id", Name, primary_key=True),
        *(required(column, Name) for column in ("tenant", "flow_id")),
        required("day", Date),
        required("test", Boolean, default=False),
        *columns,
    )


def begin(row: Row, event: object, envelope: Envelope) -> Row:
    """Set tenant, day (UTC) and flow of a session's row at the first event that its view counts.

    They stay, however long the session lasts. `flow_id` is empty for a session without a flow, or that
    nobody requested. `test` tells that nothing of the session is counted: it tries a flow.
    """
    if row.get("day") is None:
        requested = event if isinstance(event, SessionRequested) else None
        row.update(
            tenant=envelope.tenant,
            day=utc_day(envelope.time),
            flow_id=indexed(requested.flow_id) if requested is not None else "",
            test=requested is not None and requested.test,
        )
    return row


def added(counts: Mapping[str, int], name: str) -> dict[str, int]:
    """Return counts by name with one more, in the order of the names: the same for any order of events."""
    return dict(sorted({**counts, name: counts.get(name, 0) + 1}.items()))


def with_value(bins: Mapping[str, int], milliseconds: object) -> Mapping[str, int]:
    """Return a sketch with one more value, its bins in order; what is no duration changes nothing."""
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool):
        return bins
    if not milliseconds >= 0:  # nor is NaN
        return bins
    key = str(_bin(float(min(max(milliseconds, SHORTEST_MS), LONGEST_MS))))
    if key in bins:
        return {**bins, key: bins[key] + 1}
    keys, counts = list(bins), list(bins.values())
    place = bisect(keys, int(key), key=int)
    keys.insert(place, key)
    counts.insert(place, 1)
    return dict(zip(keys, counts, strict=True))


def in_ms(seconds: object) -> object:
    """Return seconds in milliseconds; anything that is not a number as it is."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return min(seconds, LONGEST_MS) * 1000
    return seconds


def with_number(by_epoch: Mapping[str, Ranges], epoch: str, number: int) -> Mapping[str, Ranges]:
    """Return which turns were counted with one more, or the same object if it is one of them."""
    ranges = by_epoch.get(epoch, ())
    if ranges and number == ranges[-1][1] + 1:  # most turns are the next one
        return {**by_epoch, epoch: [*ranges[:-1], [ranges[-1][0], number]]}
    if any(first <= number <= last for first, last in ranges):
        return by_epoch
    joined = _joined(ranges, number)
    if len(joined) > MAX_RANGES:
        joined[:2] = [[joined[0][0], joined[1][1]]]
    grown = {**by_epoch, epoch: joined}
    return dict(list(grown.items())[-MAX_EPOCHS:])


def _joined(ranges: Ranges, number: int) -> list[list[int]]:
    joined: list[list[int]] = []
    for first, last in sorted([*map(list, ranges), [number, number]]):
        if joined and joined[-1][1] + 1 >= first:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined
