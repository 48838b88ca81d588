"""The messages that a benchmark sends while it runs: each step as it starts, each figure once measured."""

from typing import BinaryIO, Literal

import msgspec

Better = Literal["higher", "lower"]


class Step(msgspec.Struct, frozen=True, tag="step"):
    """The start of a step; the next one, or the end, follows within `seconds`."""

    name: str
    seconds: float


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """A figure, the baseline of the same run, their ratio, and the target set for one of them.

    `ratio` is value / baseline. `compared` selects the figure that the target is for, `better` the direction.
    """

    name: str
    value: float
    unit: str
    baseline_name: str | None = None
    baseline: float | None = None
    target: float | None = None
    compared: Literal["ratio", "value"] = "value"
    better: Better = "lower"

    @property
    def ratio(self) -> float | None:
        """Return value / baseline, or None without a baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        figure = self.ratio if self.compared == "ratio" else self.value
        if self.target is None or figure is None:
            return None
        return figure >= self.target if self.better == "higher" else figure <= self.target


class Servers(msgspec.Struct, frozen=True):
    """The addresses of a benchmark's servers, and a folder for anything else that it starts."""

    nats_url: str
    dsn: str
    folder: str


class Report:
    """The pipe from a benchmark's process to the command, with one JSON document per line."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def step(self, name: str, *, seconds: float) -> None:
        """Announce the next step and its deadline; the command ends the process when it passes."""
        self._send(Step(name, seconds))

    def row(self, result: Result) -> None:
        """Report a figure."""
        self._send(result)

    def _send(self, message: Step | Result) -> None:
        self._pipe.write(msgspec.json.encode(message) + b"\n")
        self._pipe.flush()
