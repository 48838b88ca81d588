"""Session ids in a row, well-formed and easy to read in a failing test."""

from itertools import count


class SequentialIds:
    """Give `ses_00000000000000000000000001`, then `…2`, and so on, at each call."""

    def __init__(self, prefix: str = "ses_", start: int = 1) -> None:
        self._prefix = prefix
        self._numbers = count(start)

    def __call__(self) -> str:
        """Give the next id."""
        return f"{self._prefix}{next(self._numbers):026d}"
