import asyncio
import functools
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from antiphon.cli.errors import StackError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
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
    """Wrap a command: print an error in a line and exit with 1; exit with 130 on Ctrl-C, 143 on SIGTERM.

    SIGTERM ends a command as Ctrl-C does: it cleans up, and prints what it prints then.
    Text that the output cannot show is replaced; a reader that is gone is no error of ours.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
        with _sigterm_as_interrupt() as terminated:
            try:
                try:
                    result = command(*args, **kwargs)
                finally:  # also of a command that ends with an exit code
                    if sys.stdout is not None:  # None if it was closed at the start
                        sys.stdout.flush()
            except KeyboardInterrupt:
                code = EXIT_TERMINATED if terminated.is_set() else EXIT_INTERRUPTED
                raise typer.Exit(code) from None
            except (StackError, OSError) as error:
                raise typer.Exit(_report(error)) from None
        return result

    return wrapped


def _interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def _sigterm_as_interrupt() -> Iterator[threading.Event]:
    """Let SIGTERM do in the block what Ctrl-C does; the event tells which of them it was."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminated.set()
        handler = signal.getsignal(signal.SIGINT)  # that of asyncio cancels the main task
        if callable(handler):
            handler(number, frame)
            return
        try:  # a shell ignores SIGINT for background jobs, and asyncio then does not handle it
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise KeyboardInterrupt from None
        loop.call_soon_threadsafe(_interrupt)  # not in the middle of a task's step

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: StackError | OSError) -> int:
    """Print why a command ends; return its exit code."""
    if isinstance(error, OSError):
        discard_output()
    if isinstance(error, BrokenPipeError):
        return EXIT_FAILED
    if isinstance(error, OSError):
        _print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    else:
        _print_error(str(error))
    return EXIT_FAILED


def discard_output() -> None:
    """Drop what standard output does not take: at exit Python would try again, and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def unwritten_output() -> Iterator[None]:
    """End the program with a line and 1 when its output cannot be written, its help too."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        sys.exit(_report(error))


def _print_error(text: str) -> None:
    lines = [shown(line, coloured=True) for line in text.split("\n")]
    err.print("antiphon: " + "\n".join(lines), style="red", markup=False)


@contextmanager
def progress(first: str, *, at_once: bool = False) -> Iterator[Callable[[str], None]]:
    """Show progress in a spinner; without a terminal, on a new line at most every 10 s.

    The first of these lines is printed `at_once`, or after 10 s.
    """
    if out.is_terminal:
        with out.status(first) as spinner:
            yield spinner.update
        return
    last = -math.inf if at_once else time.monotonic()

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
