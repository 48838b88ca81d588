"""The status as text of at most 100 columns, with what must be acted on first."""

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from string import ascii_uppercase

from antiphon.contracts.streams import SESSIONS
from antiphon.persistence.leases.group import ranges
from antiphon.persistence.status.document import Build, Lag, Status, View
from antiphon.persistence.status.lag import COUNTED
from antiphon.persistence.streams.status import render_gaps

WIDTH = 100
NOBODY = "nobody"
GAPS = 10
_PREFIX = "persistence leases "  # of each connection that holds leases


class _Replicas:
    """Short names of the replicas, which the last lines of the text explain."""

    def __init__(self, status: Status) -> None:
        found = {part.holder for part in status.partitions if part.holder is not None}
        found |= {holder for view in status.projections for holder in view.holders}
        self._names = {holder: _letters(number) for number, holder in enumerate(sorted(found))}

    def name(self, holder: str | None) -> str:
        return NOBODY if holder is None else self._names[holder]

    def lines(self) -> list[str]:
        return [f"  {name}  {holder.removeprefix(_PREFIX)}" for holder, name in self._names.items()]


def render(status: Status) -> str:
    """Return the status as text."""
    replicas = _Replicas(status)
    lines = [
        f"schema     revision {status.schema_revision}, this code needs {status.schema_needed}",
        f"stream     {_stream(status)}",
        f"ingest     {_ingest(status)}",
        "",
        *_problems(status),
        *_partitions(status, replicas),
        "",
        *_views(status.projections, replicas),
        "",
        *(["replicas", *replicas.lines(), ""] if replicas.lines() else []),
        *_dead_letters(status),
    ]
    if len(status.gaps) > GAPS:
        lines.append(f"gaps of the log: {len(status.gaps)}, the newest {GAPS} (`streams status` has all)")
    return "\n".join(_wrapped([*lines, *render_gaps(status.gaps[-GAPS:])]))


def _problems(status: Status) -> list[str]:
    if not status.problems:
        return ["Nothing to act on.", ""]
    return ["To act on:", *(f"  ! {problem}" for problem in status.problems), ""]


def _stream(status: Status) -> str:
    stream = status.stream
    if stream is None:
        return f"{SESSIONS.name} does not exist" if status.nats else "not known: NATS cannot be asked"
    size = f"{_size(stream.bytes)} of {_size(stream.max_bytes) if stream.max_bytes else 'any number'}"
    held = f"{stream.messages:,} messages, {size}, created {_time(stream.created_at)}"
    if not stream.messages:
        return f"{SESSIONS.name}: {held}"
    days = f", kept for {stream.max_age_seconds / 86_400:g} days" if stream.max_age_seconds else ""
    return (
        f"{SESSIONS.name}: {held}; positions {stream.first:,} to {stream.last:,}, "
        f"from {_time(stream.first_at)} to {_time(stream.last_at)}{days}"
    )


def _ingest(status: Status) -> str:
    if status.stream is None:
        return "its lag is not known"
    behind = [part for part in status.partitions if not part.caught_up]
    if not behind:
        return "has read all of the stream"
    events = [part.lag.events for part in behind]
    known = None if None in events else sum(events)  # type: ignore[arg-type]
    oldest = max((part.lag.seconds or 0.0 for part in behind), default=0.0)
    number = "an unknown number of" if known is None else f"{known:,}"
    partitions = ranges(part.partition for part in behind)
    return f"{number} events behind, the oldest for {_seconds(oldest)}, in partitions {partitions}"


def _partitions(status: Status, replicas: _Replicas) -> list[str]:
    rows = [("partition", "checkpoint", "stream head", "events behind", "for", "epoch", "dead", "owner")]
    for part in status.partitions:
        events, seconds = ("?", "") if part.caught_up is None else _lag(part.lag)
        rows.append(
            (
                str(part.partition),
                str(part.checkpoint),
                "?" if part.head is None else str(part.head),
                events,
                seconds,
                str(part.epoch),
                f">{COUNTED - 1:,}" if part.dead_letters >= COUNTED else str(part.dead_letters),
                replicas.name(part.holder) + ("  STOPPED" if part.stopped else ""),
            )
        )
    return _aligned(rows, left=(7,))


def _views(views: Sequence[View], replicas: _Replicas) -> list[str]:
    rows = [("view", "version", "state", "events behind", "for", "skipped", "owners")]
    for view in views:
        events, seconds = _lag(view.lag)
        owners = {replicas.name(holder): those for holder, those in view.holders.items()}
        if view.unheld:
            owners[NOBODY] = view.unheld
        owned = [f"{name} {ranges(those)}" if len(owners) > 1 else name for name, those in owners.items()]
        rows.append(
            (
                view.projection,
                "none" if view.live_version is None else str(view.live_version),
                _state(view),
                events,
                seconds,
                str(view.skipped),
                "; ".join(owned),
            )
        )
    builds = [f"  {view.projection}: {_build(view.build)}" for view in views if view.build is not None]
    return [*_aligned(rows, left=(0, 2, 6)), *builds]


def _state(view: View) -> str:
    if view.stalled:
        return f"STALLED in {ranges(each.partition for each in view.stalled)}"
    if view.superseded:
        return f"superseded (this code: {view.version})"
    if view.build is not None:
        return f"{'being built' if view.build.run_by else 'half built'}, {view.build.done:.0%}"
    if view.live_version is None:
        return "not built"
    if view.version is None:
        return "of other code"
    return "live" if view.version == view.live_version else f"to be built: version {view.version}"


def _build(build: Build) -> str:
    what = f"{'being' if build.run_by else 'half'} built in version {build.version}"
    begun = f"begun {_time(build.started_at)} by {build.started_by}"
    return f"{what}, {build.done:.0%} done, {begun}; {build.run_by or NOBODY} runs it"


def _dead_letters(status: Status) -> list[str]:
    dead = status.dead_letters
    newest = f", the newest {_time(dead.newest_at)}: {dead.newest_error}" if dead.count else ""
    lines = [f"dead letters {'at least ' if dead.at_least else ''}{dead.count:,}{newest}"]
    return lines + [f"  {count:,} of tenant {tenant}" for tenant, count in dead.by_tenant.items()]


def _lag(lag: Lag) -> tuple[str, str]:
    if lag.events is None:
        return "?", "" if lag.seconds is None else _seconds(lag.seconds)
    if lag.events == 0:
        return "0", ""
    return f"{'>' if lag.at_least else ''}{lag.events:,}", _seconds(lag.seconds or 0.0)


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _wrapped(lines: Iterable[str]) -> list[str]:
    """Break lines at WIDTH; what follows is indented."""
    wrapped = []
    for line in lines:
        indent = " " * (11 if line.startswith(("stream ", "ingest ")) else 4)
        wrapped += textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
    return wrapped


def _letters(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"R{number}"


def _time(at: datetime | None) -> str:
    return "?" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7_200 else f"{seconds / 3_600:,.1f} h"


def _size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.1f} MiB"
