"""What the routes of /v1/analytics answer with; latencies are read from merged sketches."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime

import msgspec
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore
from msgspec import Struct

from antiphon.contracts.views import SKETCH_ACCURACY, Row

_MAPPING = LogarithmicMapping(SKETCH_ACCURACY)
_bins = msgspec.json.Decoder(dict[str, int])
_SUMS = ("calls", "ended", "failed", "turns", "interruptions")


class Latency(Struct, frozen=True):
    """Quantiles of `count` durations in milliseconds, within 1 %; null when there are none."""

    count: int
    p50: float | None
    p95: float | None


class DailyFigures(Struct, frozen=True, kw_only=True):
    """The sessions that began on a day (UTC) with a flow; `flow_id` is null for those without one.

    `calls` began, `ended` have ended, `failed` of them without ever being closed. `outcomes` counts the ends
    by reason, `faults` those of closed sessions by the side that caused them. `minutes` is how long closed
    sessions lasted. `response_ms` is from the end of the user's words to the agent's first, per turn;
    `ready_ms` is until the first agent was ready, per session.
    """

    day: date
    flow_id: str | None
    calls: int
    ended: int
    failed: int
    minutes: float
    turns: int
    interruptions: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    response_ms: Latency
    ready_ms: Latency


class UsageFigures(Struct, frozen=True, kw_only=True):
    """What one model was used for by the sessions that began on a day (UTC)."""

    day: date
    kind: str
    provider: str
    model: str
    sessions: int
    input_tokens: int
    input_cached_tokens: int
    input_audio_tokens: int
    output_tokens: int
    output_audio_tokens: int
    characters: int
    requests: int
    audio_seconds: float


class TimelineItem(Struct, frozen=True, kw_only=True):
    """One thing that happened in a session; `ended_at` is null while it goes on.

    `sequence` is that of the event that it began with. Lanes are `session`, `participant`, `caller`, `agent`,
    `tool`, `media` and `error`; newer versions may add some.
    """

    session_id: str
    lane: str
    started_at: datetime
    ended_at: datetime | None
    title: str
    detail: str | None
    sequence: int
    part: int


def daily_figures(day: date, flow_id: str, rows: Sequence[Row]) -> DailyFigures:
    """Return the figures of a day and flow: the sums of its rows, one for each partition."""
    sums = {name: sum(row[name] for row in rows) for name in _SUMS}
    return DailyFigures(
        day=day,
        flow_id=flow_id or None,
        minutes=round(sum(row["duration_ms"] for row in rows) / 60_000, 3),
        outcomes=_merged(row["outcomes"] for row in rows),
        faults=_merged(row["faults"] for row in rows),
        response_ms=latency(row["response_ms"] for row in rows),
        ready_ms=latency(row["ready_ms"] for row in rows),
        **sums,
    )


def latency(sketches: Iterable[str]) -> Latency:
    """Return quantiles of all values of some sketches, each as JSON; see `contracts.views.DailyView`."""
    store = DenseStore()
    for key, count in _merged(sketches).items():
        store.add(int(key), count)
    sketch = BaseDDSketch(_MAPPING, store, DenseStore(), 0.0)
    return Latency(int(store.count), _quantile(sketch, 0.5), _quantile(sketch, 0.95))


def _quantile(sketch: BaseDDSketch, quantile: float) -> float | None:
    value = sketch.get_quantile_value(quantile)
    return None if value is None else round(value, 1)


def _merged(documents: Iterable[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(_bins.decode(document))
    return dict(sorted(counts.items()))
