"""What a metric is declared with: name, unit, description, and labels whose values are bounded."""

from collections.abc import Mapping
from typing import ClassVar, Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]  # of the labels of one series, in the order of the declaration

OTHER: Final = "_OTHER"  # instead of a value that is not allowed, as OpenTelemetry names it
ABSENT: Final = ""  # a label that a series does not have

_UNITS: Final = {"s": "seconds", "By": "bytes"}


class AtMost(NamedTuple):
    """Values that are not known before: the first `limit` that occur, each other one is `_OTHER`."""

    limit: int
    what: str  # they are


Allowed = tuple[str, ...] | AtMost

_declared: dict[str, "Instrument"] = {}


def declared() -> tuple["Instrument", ...]:
    """Return the metrics of the modules that are imported, by name."""
    return tuple(_declared[name] for name in sorted(_declared))


class Instrument:
    """One metric, and the labels of its series. Only the thread of the event loop may change it."""

    kind: ClassVar[Kind]

    def __init__(
        self, name: str, *, unit: str = "", description: str, labels: Mapping[str, Allowed] | None = None
    ) -> None:
        if name in _declared:
            raise ValueError(f"metric {name} is declared twice")
        self.name = name
        self.unit = unit
        self.description = description
        self.labels: dict[str, Allowed] = dict(labels or {})
        self._seen: dict[str, set[str]] = {label: set() for label in self.labels}
        _declared[name] = self

    @property
    def prometheus_unit(self) -> str:
        """The unit as Prometheus writes it; annotations in braces are none."""
        return _UNITS.get(self.unit, "")

    @property
    def prometheus_name(self) -> str:
        """The name as Prometheus has it; samples of histograms have `_bucket`, `_sum`, `_count` after it."""
        name = self.name.replace(".", "_")
        name += f"_{self.prometheus_unit}" if self.prometheus_unit else ""
        return f"{name}_total" if self.kind == "counter" else name

    def admitted(self, values: Values) -> Values:
        """Return the labels of the series that values belong to.

        Raises TypeError if there are more or fewer than labels.
        """
        if len(values) != len(self.labels):
            raise TypeError(
                f"{self.name} has the labels {', '.join(self.labels) or '(none)'}: got {values!r}"
            )
        return tuple(self._admitted(label, value) for label, value in zip(self.labels, values, strict=True))

    def attributes(self, values: Values) -> dict[str, str]:
        """Return the labels of a series by name, without those that it does not have."""
        return {label: value for label, value in zip(self.labels, values, strict=True) if value != ABSENT}

    def _admitted(self, label: str, value: str) -> str:
        allowed = self.labels[label]
        if isinstance(allowed, AtMost):
            seen = self._seen[label]
            if value in seen or value == ABSENT:
                return value
            if len(seen) >= allowed.limit:
                return OTHER
            seen.add(value)
            return value
        return value if value in allowed else OTHER
