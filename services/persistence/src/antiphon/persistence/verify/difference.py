"""What verification found: each difference with its place, what was expected and what was found."""

from datetime import datetime
from typing import Literal

import msgspec

from antiphon.persistence.verify.heads import Head

LISTED = 1000  # differences that are kept; the others are counted

Kind = Literal["hash", "chain", "sequence", "order", "column", "erased", "uncovered", "checkpoint", "anchor"]


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference; what is not known, or does not apply, is None."""

    kind: Kind
    text: str
    partition: int
    position: int | None = None
    session_id: str | None = None
    sequence: int | None = None
    field: str | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        place = f"partition {self.partition}"
        if self.position is not None:
            place += f", position {self.position}"
        if self.session_id is not None:
            place = f"session {self.session_id}, sequence {self.sequence} ({place})"
        lines = [f"{place}: {self.text}"]
        if self.expected is not None or self.found is not None:
            what = f"{self.field}: " if self.field else ""
            lines.append(f"    {what}expected {self.expected or 'none'}, found {self.found or 'none'}")
        return "\n".join(lines)


class LogReport(msgspec.Struct):
    """The result of a verification; `uncovered` events are from before there was a chain."""

    since: datetime | None
    tenant: str | None
    verified: int = 0
    uncovered: int = 0
    erased: int = 0
    seconds: float = 0.0
    difference_count: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    heads: list[Head] = msgspec.field(default_factory=list)

    @property
    def events(self) -> int:
        """All rows that were read."""
        return self.verified + self.uncovered + self.erased

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return self.difference_count == 0

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it if it is one of the first."""
        self.difference_count += 1
        if len(self.differences) < LISTED:
            self.differences.append(difference)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return msgspec.json.encode({"ok": self.ok, **msgspec.to_builtins(self)}).decode()


def render(report: LogReport, *, heads: bool) -> str:
    """Return the report as text, without the differences."""
    lines = []
    if heads:
        lines += [f"{'partition':>9}  {'position':>12}  {'events':>12}  chain"]
        lines += [
            f"{head.partition:>9}  {head.position:>12}  {head.events:>12}  {head.chain or 'not begun'}"
            for head in report.heads
        ]
    rate = report.verified / report.seconds if report.seconds else 0.0
    lines.append(f"{report.verified:,} events verified in {report.seconds:.1f} s, {rate:,.0f} per second.")
    if report.uncovered:
        lines.append(
            f"{report.uncovered:,} events are from before the chain and not covered by it: "
            "only their columns and sequences were compared."
        )
    if report.erased:
        lines.append(f"{report.erased:,} erased events: only their hashes are left, and were verified.")
    if report.tenant is not None:
        lines.append(
            "Of one tenant, only the sessions: the chains of partitions need a run without --tenant."
        )
    count = report.difference_count
    found = f"{count:,} difference{'' if count == 1 else 's'}{_listed(report)}."
    lines.append("No difference." if report.ok else found)
    return "\n".join(lines)


def _listed(report: LogReport) -> str:
    hidden = report.difference_count - len(report.differences)
    return f", the first {len(report.differences):,} listed" if hidden else ""
