import functools
import os
import re
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

PLAIN_SECONDS = 10.0  # between two progress lines when the output is not a terminal

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# Control characters, line separators, changes of the writing direction, and lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_COLOURS = re.compile(rf"(?!\t|\x1b\[[\d;]*m){_CONTROL.pattern}")

P = ParamSpec("P")
R = TypeVar("R")


def shown(text: str, *, coloured: bool = False) -> str:
    """Return text of others with its control characters written out: they would act on the terminal.

    Text that is `coloured` keeps tabs and the escape sequences of colours.
    """
    return (_CONTROL_BUT_COLOURS if coloured else _CONTROL).sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def program_name() -> str:
    """Return the command line name of this program in the current folder."""
    name = Path(sys.argv[0])
    found = shutil.which(name.name)
    if found and Path(found).resolve() == name.resolve():
        return name.name
    return os.path.relpath(name)


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: print a StackError and exit with 1; exit with 130 on Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except StackError as error:
            lines = [shown(line, coloured=True) for line in str(error).split("\n")]
            err.print("antiphon: " + "\n".join(lines), style="red", markup=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Show progress in a spinner; without a terminal, on a new line at most every 10 s."""
    if out.is_terminal:
        with out.status(first) as spinner:
            yield spinner.update
        return
    last = time.monotonic()

    def update(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > PLAIN_SECONDS:
            last = time.monotonic()
            out.print(text, markup=False)

    yield update


def table(titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows in columns, without truncation: long lines wrap."""
    cells = [[Text(title, style="dim") for title in titles]]
    cells += [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        for cell, width in zip(row[:-1], widths, strict=False):
            cell.pad_right(width - cell.cell_len)
        out.print(Text("  ").join(row))
