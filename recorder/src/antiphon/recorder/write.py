"""How the parts of the recorder write events down."""

from typing import Protocol

from antiphon.contracts.event import Event


class Write(Protocol):
    """Write an event at once; `at` is when it occurred, in unix seconds, when that was not just now."""

    def __call__(self, event: Event, *, at: float | None = None) -> None:
        """Write the event."""
