import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from antiphon.cli.errors import StackError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

P = ParamSpec("P")
R = TypeVar("R")


def me() -> str:
    """Return what to type to run this command again from here."""
    name = Path(sys.argv[0])
    found = shutil.which(name.name)
    if found and Path(found).resolve() == name.resolve():
        return name.name
    return os.path.relpath(name)


def says_why(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with code 1 and the reason, not with a traceback, when the stack cannot do it."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except StackError as error:
            err.print(f"antiphon: {error}", style="red", markup=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


PLAIN_SECONDS = 10.0  # between two lines of progress where nothing can be drawn over


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show what goes on, on one line that changes; where that cannot be, on a new line now and then."""
    if out.is_terminal:
        with out.status(first) as spinner:
            yield spinner.update
        return
    told = time.monotonic()

    def tell(text: str) -> None:
        nonlocal told
        if time.monotonic() - told > PLAIN_SECONDS:
            told = time.monotonic()
            out.print(text, markup=False)

    yield tell


def table(titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows in columns. Nothing is cut: a line that is too long for the screen goes on below."""
    cells = [[Text(title, style="dim") for title in titles]]
    cells += [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        for cell, width in zip(row[:-1], widths, strict=False):
            cell.pad_right(width - cell.cell_len)
        out.print(Text("  ").join(row))
