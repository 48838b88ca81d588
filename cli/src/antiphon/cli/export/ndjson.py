"""Export to one file of JSON lines: an event in each, as session-api sends it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from antiphon.cli.errors import StackError
from antiphon.cli.export.manifest import Checkpoint, PartFile, sync_folder

SYNC_BYTES = 8 << 20  # written between two checkpoints
PARTIAL = ".partial"  # the end of the file's name until the export is complete


class NdjsonFile:
    """The file while it is written: it gets its name when the export is complete.

    A complete one keeps it until there is more to write. What a crash left behind the last checkpoint is
    cut off. Raises StackError if what was exported before is not all there.
    """

    parts = 1

    def __init__(self, path: Path, last: Checkpoint | None) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL)
        self._size = last.bytes if last else 0
        self._unsynced = 0
        self._file: BinaryIO | None = None
        if last or path.exists():
            self._require_whole(last)

    def _require_whole(self, last: Checkpoint | None) -> None:
        """Require what was exported before, no less, and more only where a crash may have left it."""
        partial, complete = self._partial.exists(), self._path.exists()
        if complete and (partial or last is None):
            raise StackError(
                f"{self._path} exists, but the export is not complete: move it away, and run the same command"
            )
        if not partial and not complete:
            raise StackError(
                f"{self._path} was moved or removed: put it back, or export to another place from the start"
            )
        file = self._partial if partial else self._path
        size = file.stat().st_size
        if size < self._size or (complete and size > self._size):
            raise StackError(
                f"{file} was changed: it has {size:,} bytes, and {self._size:,} were exported to it; "
                "put the exported file back, or export to another place from the start"
            )

    @property
    def full(self) -> bool:
        """Whether a checkpoint is due."""
        return self._unsynced >= SYNC_BYTES

    def add(self, lines: Sequence[bytes]) -> None:
        """Write events."""
        if not lines:
            return
        file = self._opened()
        for line in lines:
            file.write(line)
            file.write(b"\n")
            self._unsynced += len(line) + 1

    def _opened(self) -> BinaryIO:
        if self._file is None:
            if self._path.exists():
                self._path.rename(self._partial)  # complete before; more is added
            self._file = self._partial.open("ab")
            self._file.truncate(self._size)
        return self._file

    def flush(self) -> tuple[list[PartFile], int]:
        """Make what was written durable; return no parts, and the size of the file."""
        if self._file is None and self._path.exists():
            return [], self._size  # complete before; there was nothing to add
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        self._size += self._unsynced
        self._unsynced = 0
        return [], self._size

    def close(self, *, complete: bool) -> None:
        """Close the file; one that is complete gets its name."""
        if self._file is None:
            return
        self._file.close()
        if complete:
            self._partial.rename(self._path)
            sync_folder(self._path.parent)
