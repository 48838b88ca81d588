"""One line of a benchmark's table."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Result:
    """Hold a figure, the baseline of the same run, their ratio, and the target set for one of them.

    `ratio` is value / baseline. `target` is compared with the ratio when `judged` is "ratio", with the
    value otherwise; `better` says in which direction a figure is good.
    """

    name: str
    value: float
    unit: str
    baseline_name: str | None = None
    baseline: float | None = None
    target: float | None = None
    judged: Literal["ratio", "value"] = "value"
    better: Literal["higher", "lower"] = "lower"

    @property
    def ratio(self) -> float | None:
        """Return value / baseline, or None without a baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        figure = self.ratio if self.judged == "ratio" else self.value
        if self.target is None or figure is None:
            return None
        return figure >= self.target if self.better == "higher" else figure <= self.target
