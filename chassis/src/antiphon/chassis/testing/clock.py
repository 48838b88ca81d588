"""A clock that stands still until it is told."""

from datetime import UTC, datetime, timedelta

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class FixedClock:
    """Tell the same time at every call."""

    def __init__(self, at: datetime = NEW_YEAR) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.at

    def advance(self, seconds: float) -> datetime:
        """Move on and tell the new time."""
        self.at += timedelta(seconds=seconds)
        return self.at
