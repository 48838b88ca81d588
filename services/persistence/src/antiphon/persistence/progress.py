"""Show the progress of a command on stderr: a bar on a terminal, and elsewhere a line every few seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 5.0  # between two lines


class Shown:
    """How far a command is."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.events = 0
        self.done: float | None = None  # 0 to 1, None when the end is not known
        self.waits_for: str | None = None
        self.on_change: Callable[[], object] = lambda: None
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def add(self, events: int, done: float | None = None) -> None:
        """Count events, and say which part is done; what was waited for is over."""
        self.events += events
        self.done = done
        self.waits_for = None
        self.on_change()

    def waits(self, holder: str) -> None:
        """Say what the command waits for."""
        self.waits_for = holder
        self.on_change()

    def __str__(self) -> str:
        parts = [] if self.done is None else [f"{self.done:.0%}"]
        parts.append(f"{self.events:,} events in {self.seconds:.0f} s")
        if self.waits_for:
            parts.append(f"waits for {self.waits_for}")
        return f"{self.what}: {', '.join(parts)}"


@contextmanager
def shown(what: str) -> Iterator[Shown]:
    """Show what the block tells."""
    state = Shown(what)
    with _bar(state) if sys.stderr.isatty() else _lines(state):
        yield state


@contextmanager
def _lines(state: Shown) -> Iterator[None]:
    ended = threading.Event()

    def write_lines() -> None:
        while not ended.wait(EVERY_SECONDS):
            sys.stderr.write(f"{state}\n")
            sys.stderr.flush()

    # A thread: the loop may be busy with one step for long.
    thread = threading.Thread(target=write_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _bar(state: Shown) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(state.what, total=None, events=0, rate=0.0)

    def update() -> None:
        waits = f" waits for {state.waits_for}" if state.waits_for else ""
        bar.update(
            task,
            description=f"{state.what}{waits}",
            total=None if state.done is None else 1.0,
            completed=state.done or 0.0,
            events=state.events,
            rate=state.events / max(state.seconds, 0.001),
        )

    state.on_change = update
    with bar:
        yield
