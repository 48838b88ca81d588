"""The manifest of an export: what it asked for, and after each checkpoint which data is safely on disk.

A file of JSON lines that only grows: the first is the header, each further one a checkpoint. A line is
written after the data that it names; one that a crash has cut off does not count. The header is written
with the first data: an export that was refused leaves no manifest.
"""

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from antiphon.cli.errors import StackError

FORMAT = 1
BEGINNING = b'{"antiphon_export":'
LONGEST_HEADER = 1 << 20

_encoder = msgspec.json.Encoder()


class Request(Struct, frozen=True, kw_only=True):
    """What is exported: the options that change the data, which are the same for the whole of an export."""

    format: Literal["ndjson", "parquet"]
    types: list[str] = []
    since: str | None = None
    until: str | None = None
    without_pii: bool = False


class Header(Struct, frozen=True, kw_only=True):
    """The first line; `id` is in the names of the export's files."""

    antiphon_export: int
    id: str
    request: Request
    started_at: datetime


class PartFile(Struct, frozen=True):
    """A file that is complete; its path is relative to the folder of the export."""

    path: str
    rows: int
    bytes: int


class Checkpoint(Struct, frozen=True, kw_only=True):
    """What is on disk: all events up to `cursor`; `files` are those written since the checkpoint before.

    `until` is the end of the run; `bytes` is the size of the file, for an export to one.
    """

    cursor: str
    until: str
    complete: bool
    events: int
    tenant: str | None = None
    files: list[PartFile] = []
    parts: int = 0
    bytes: int = 0
    at: datetime | None = None


_header = msgspec.json.Decoder(Header)
_checkpoint = msgspec.json.Decoder(Checkpoint)


class Manifest:
    """The open manifest of one export; no other process can open it meanwhile."""

    def __init__(
        self, path: Path, header: Header, last: Checkpoint | None, descriptor: int, *, begun: bool
    ) -> None:
        self.path = path
        self.header = header
        self.last = last
        self.begun = begun  # whether the header is written
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, request: Request, new_id: Callable[[], str], *, resume: bool) -> "Manifest":
        """Open the manifest of an export that began before, or a new one; drop a line that was cut off.

        Raises StackError when the file is no manifest, when there is an export and it is not to be resumed,
        and when another process writes it.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, path)
            found = _read(path)
            if found is None:
                now = datetime.now(UTC)
                header = Header(antiphon_export=FORMAT, id=new_id(), request=request, started_at=now)
                return cls(path, header, None, descriptor, begun=False)
            header, last, size = found
            _require_resumable(path, header.request, request, resume=resume)
            os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, header, last, descriptor, begun=True)

    def begin(self) -> None:
        """Write the header, before the first data, unless it is there."""
        if self.begun:
            return
        self.begun = True
        os.ftruncate(self._descriptor, 0)
        self._write(self.header)
        sync_folder(self.path.parent)

    def append(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, after its data."""
        checkpoint = msgspec.structs.replace(checkpoint, at=datetime.now(UTC))
        self._write(checkpoint)
        self.last = checkpoint

    def close(self) -> None:
        """Let another process open it; one that has not begun is removed."""
        try:
            if not self.begun:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _write(self, line: Header | Checkpoint) -> None:
        rest = memoryview(_encoder.encode(line) + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StackError(f"another process writes this export: {path} is locked") from None
    if os.fstat(descriptor).st_nlink == 0:
        raise StackError(f"another process has just given up this export, and removed {path}: try again")


def _read(path: Path) -> tuple[Header, Checkpoint | None, int] | None:
    """Return the header, the last checkpoint, and the size of all whole lines; None without a header."""
    last: Checkpoint | None = None
    with path.open("rb") as lines:
        first = lines.readline(LONGEST_HEADER)
        if not first.endswith(b"\n") and (first.startswith(BEGINNING) or BEGINNING.startswith(first)):
            return None  # a crash has cut it off: nothing was exported
        try:
            header = _header.decode(first)
            size = len(first)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                last = _checkpoint.decode(line)
                size += len(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StackError(
                f"{path} is not the manifest of an export, or is damaged ({error}): export to another place"
            ) from error
    if header.antiphon_export != FORMAT:
        raise StackError(f"{path} is of another version of antiphon: export to another place")
    return header, last, size


def _require_resumable(path: Path, found: Request, wanted: Request, *, resume: bool) -> None:
    """Require that an export goes on, and with the options that it began with; name those that differ."""
    if not resume:
        raise StackError(f"there is an export already ({path}): pass --resume to go on with it")
    before, now = _options(found), _options(wanted)
    differing = [_as_flag(name, before[name]) for name in before if before[name] != now[name]]
    if differing:
        raise StackError(
            f"the export began with other options ({', '.join(differing)}): pass the same ones, "
            f"export to another place, or delete what was exported, and {path}, to begin again"
        )


def _options(request: Request) -> dict[str, Any]:
    """Return the options that change the data, by name."""
    options: dict[str, Any] = msgspec.to_builtins(request)
    return options


def _as_flag(name: str, value: Any) -> str:
    """Return how an option was passed on the command line."""
    flag = "--type" if name == "types" else f"--{name.replace('_', '-')}"
    if not value or value is True:
        return f"{'with' if value else 'without'} {flag}"
    values = value if isinstance(value, list) else [value]
    return " ".join(["with", *(f"{flag} {each}" for each in values)])


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
