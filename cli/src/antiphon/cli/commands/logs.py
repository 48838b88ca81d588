"""`antiphon logs`."""

import time
from pathlib import Path

from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.screen import out, program_name, shown
from antiphon.cli.settings import StackSettings

POLL_SECONDS = 0.3


def print_logs(service: str | None, *, follow: bool, lines: int) -> None:
    """Print the last lines of one service or of all; with `follow`, new lines until Ctrl-C."""
    readers = [LogReader(path, prefixed=service is None) for path in _files(service)]
    for reader in readers:
        reader.print_last(lines)
    while follow:
        for reader in readers:
            reader.print_new()
        time.sleep(POLL_SECONDS)


def _files(service: str | None) -> list[Path]:
    folder = load(StackSettings).home / "logs"
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not found:
        raise StackError(f"there are no logs in {folder}: run `{program_name()} up`")
    if service is None:
        return list(found.values())
    if service not in found:
        raise StackError(f"no log of {service!r}; logs: {', '.join(found)}")
    return [found[service]]


class LogReader:
    """A log file whose new lines are printed."""

    def __init__(self, path: Path, *, prefixed: bool) -> None:
        self._path = path
        self._prefix = f"{path.stem:<15}" if prefixed else ""
        self._offset = 0
        self._rest = b""

    def print_last(self, count: int) -> None:
        """Print the last lines."""
        self._print(self._new_lines()[-count:] if count else [])

    def print_new(self) -> None:
        """Print the lines added since the last call."""
        self._print(self._new_lines())

    def _new_lines(self) -> list[bytes]:
        if self._path.stat().st_size < self._offset:  # it was rotated
            self._offset, self._rest = 0, b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return lines

    def _print(self, lines: list[bytes]) -> None:
        for line in lines:
            text = shown(line.decode(errors="replace").removesuffix("\r"), coloured=True)
            out.print(Text(self._prefix, style="dim") + Text.from_ansi(text))
