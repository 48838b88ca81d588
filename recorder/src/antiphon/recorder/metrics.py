"""The metrics of the outboxes of this process: what is recorded and not yet stored by the broker."""

from collections.abc import Callable
from typing import Protocol

from antiphon.chassis.metrics import counter, gauge

depth = gauge(
    "antiphon.outbox.depth",
    unit="{event}",
    description="Events of jobs that the broker has not acknowledged; those of a killed job from the "
    "time when its journal is adopted",
)
size = gauge(
    "antiphon.outbox.size",
    unit="By",
    description="Size of the journals of these jobs, with what they hold in memory",
)
age = gauge(
    "antiphon.outbox.age",
    unit="s",
    combine="max",
    description="Age of the oldest event that the broker has not acknowledged; 0 when there is none",
)
events = counter(
    "antiphon.outbox.events",
    unit="{event}",
    description="Events that the broker has stored (published), that it refuses permanently and that were "
    "set aside (refused), and that are in no file and were never published (lost)",
    labels={"outcome": ("published", "refused", "lost")},
)


class Waiting(Protocol):
    """What a journal, or its pump, knows of the events that wait."""

    @property
    def events_waiting(self) -> int:
        """How many there are."""

    @property
    def bytes_held(self) -> int:
        """The size of the journal."""

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest one, 0 if there is none."""


def watch(waiting: Waiting) -> Callable[[], None]:
    """Read the gauges from this too from now on; return a function that ends it."""
    ends = (
        depth.watch(lambda: waiting.events_waiting),
        size.watch(lambda: waiting.bytes_held),
        age.watch(lambda: waiting.oldest_seconds),
    )

    def end() -> None:
        for each in ends:
            each()

    return end
