"""`antiphon export`: the events of the log as files."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from antiphon.cli.api import open_api
from antiphon.cli.errors import StackError
from antiphon.cli.export.manifest import Request
from antiphon.cli.export.writing import Start, open_export
from antiphon.cli.screen import err
from antiphon.client import AsyncAntiphon, ExportedBatch

STANDARD_OUTPUT = "-"
ID_BYTES = 4
LINE_SECONDS = 3.0  # between two lines of progress without a terminal


async def export_events(output: str, request: Request, *, resume: bool) -> None:
    """Write the events of the tenant to files, or as lines to standard output."""
    if output == STANDARD_OUTPUT:
        if resume or request.format != "ndjson":
            raise StackError("standard output takes --format ndjson, and cannot be resumed: name a file")
        async with open_api() as client:
            await _copy(client, request, Start(None, request.until), _Printed())
        return
    with closing(open_export(Path(output), request, resume=resume, new_id=_new_id)) as export:
        before = export.events
        try:
            async with open_api() as client:
                await _copy(client, request, export.start, export)
        except asyncio.CancelledError:  # Ctrl-C or SIGTERM
            if export.begun:
                err.print("stopped: the same command with --resume goes on", markup=False)
            raise
        total = f", {export.events:,} in all" if before else ""
        err.print(f"{export.events - before:,} events exported to {output}{total}", markup=False)


def _new_id() -> str:
    return os.urandom(ID_BYTES).hex()


class Taking(Protocol):
    """What takes the batches of an export."""

    def take(self, batch: ExportedBatch) -> None:
        """Take a batch."""


class _Printed:
    """Lines on standard output."""

    def take(self, batch: ExportedBatch) -> None:
        """Print the events of a batch."""
        for line in batch.lines:
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


async def _copy(client: AsyncAntiphon, request: Request, start: Start, taking: Taking) -> None:
    batches = client.export_batches(
        types=request.types or None,
        since=request.since if start.after is None else None,
        after=start.after,
        until=start.until,
        without_pii=request.without_pii,
    )
    with _progress() as shown:
        async with aclosing(batches):
            async for batch in batches:
                taking.take(batch)
                shown.advance(len(batch.lines), batch.progress)


class Shown(Protocol):
    """A display of the progress."""

    def advance(self, events: int, part: float) -> None:
        """Show that more events were written, and which part of the log was read, from 0 to 1."""


class _Counted:
    """The events of this run, and their rate."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.events = 0

    def text(self) -> str:
        """Describe both."""
        seconds = max(time.monotonic() - self.began, 0.001)
        return f"{self.events:,} events, {self.events / seconds:,.0f}/s"


@contextmanager
def _progress() -> Iterator[Shown]:
    """Show a bar on standard error; without a terminal a line every 3 s, also while nothing arrives."""
    if not err.is_terminal:
        lines = _Lines(asyncio.get_running_loop())
        try:
            yield lines
        finally:
            lines.stop()
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counted = _Counted()
        self._task: TaskID = progress.add_task("", total=1.0)

    def advance(self, events: int, part: float) -> None:
        self._counted.events += events
        self._progress.update(self._task, completed=part, description=self._counted.text())


class _Lines:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counted = _Counted()
        self._part = 0.0
        self._next = loop.call_later(LINE_SECONDS, self._print)

    def advance(self, events: int, part: float) -> None:
        self._counted.events += events
        self._part = part

    def stop(self) -> None:
        self._next.cancel()

    def _print(self) -> None:
        self._next = self._loop.call_later(LINE_SECONDS, self._print)
        err.print(f"{self._part:4.0%}  {self._counted.text()}", markup=False)


def instant(text: str) -> str:
    """Return a day (its start in UTC) or a time of RFC 3339 as a time of RFC 3339.

    Raises ValueError.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("takes a day, as 2026-01-31, or a time, as 2026-01-31T09:30:00Z") from None
    if found.tzinfo is None:
        if len(text) > len("2026-01-31"):
            raise ValueError("needs an offset from UTC, as in 2026-01-31T09:30:00Z")
        found = found.replace(tzinfo=UTC)
    if not 1 < found.year < 9999:
        raise ValueError("takes a day or a time in the years 2 to 9998")
    return found.astimezone(UTC).isoformat()
