"""The times of a run, as a table."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Figures:
    """What took how long, in the order in which it was measured."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, what: str, seconds: float) -> None:
        """Note a time."""
        self.seconds[what] = seconds

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Note how long the block takes, unless it fails."""
        began = time.monotonic()
        yield
        self.add(what, time.monotonic() - began)

    def table(self) -> str:
        """Return a table for people."""
        width = max(len(what) for what in self.seconds)
        lines = [f"| {'what'.ljust(width)} | seconds |", f"| {'-' * width} | ------: |"]
        lines += [f"| {what.ljust(width)} | {seconds:7.1f} |" for what, seconds in self.seconds.items()]
        return "\n".join(lines)

    def write(self, folder: Path) -> Path:
        """Write them as JSON and return the path."""
        folder.mkdir(exist_ok=True)
        path = folder / "kubernetes.json"
        path.write_text(json.dumps({k: round(v, 2) for k, v in self.seconds.items()}, indent=2) + "\n")
        return path
