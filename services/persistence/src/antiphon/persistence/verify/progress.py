"""Show the progress of a verification on a terminal: a bar, the rate, and the time that is left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Show = Callable[[int, int, int], None]  # positions that are done, positions in all, events that are done


@contextmanager
def shown(what: str) -> Iterator[Show]:
    """Show a bar on stderr while the block runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, events: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=None, events=0, rate=0.0)

    def update(done: int, total: int, events: int) -> None:
        elapsed = bar.tasks[0].elapsed or 0.0
        rate = events / elapsed if elapsed else 0.0
        bar.update(task, completed=done, total=total, events=events, rate=rate)

    with bar:
        yield update
