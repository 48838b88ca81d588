import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.screen import me, out, says_why
from antiphon.cli.settings import StackSettings

LOOK_SECONDS = 0.3


@says_why
def logs(
    service: Annotated[str | None, typer.Argument(help="One service; all of them when not given.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)] = 50,
) -> None:
    """Print what the services logged."""
    readers = [LogReader(path, prefixed=service is None) for path in _files(service)]
    for reader in readers:
        reader.print_last(lines)
    while follow:
        for reader in readers:
            reader.print_new()
        time.sleep(LOOK_SECONDS)


def _files(service: str | None) -> list[Path]:
    folder = load(StackSettings).home / "logs"
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not found:
        raise StackError(f"there are no logs in {folder}: run `{me()} up`")
    if service is None:
        return list(found.values())
    if service not in found:
        raise StackError(f"no log of {service!r}; there are: {', '.join(found)}")
    return [found[service]]


class LogReader:
    """Print a log file's last lines, and then what is added to it."""

    def __init__(self, path: Path, *, prefixed: bool) -> None:
        self._path = path
        self._prefix = f"{path.stem:<15}" if prefixed else ""
        self._offset = 0
        self._rest = b""

    def print_last(self, count: int) -> None:
        """Print the last lines of what is there."""
        self._print(self._new_lines()[-count:] if count else [])

    def print_new(self) -> None:
        """Print what was added since."""
        self._print(self._new_lines())

    def _new_lines(self) -> list[bytes]:
        if self._path.stat().st_size < self._offset:  # it was emptied when it had grown too large
            self._offset, self._rest = 0, b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return lines

    def _print(self, lines: list[bytes]) -> None:
        for line in lines:
            out.print(Text(self._prefix, style="dim") + Text.from_ansi(line.decode(errors="replace")))
