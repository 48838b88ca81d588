"""Export to one file of JSON lines: an event in each, as session-api sends it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from antiphon.cli.export.manifest import Checkpoint, PartFile, sync_folder

SYNC_BYTES = 8 << 20  # written between two checkpoints
PARTIAL = ".partial"  # the end of the file's name until the export is complete


class NdjsonFile:
    """The file while it is written: it gets its name when the export is complete.

    What a crash left behind the last checkpoint is cut off.
    """

    parts = 1

    def __init__(self, path: Path, last: Checkpoint | None) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL)
        size = last.bytes if last else 0
        if last and not self._partial.exists():
            path.rename(self._partial)  # complete before; more is added
        self._file: BinaryIO = self._partial.open("ab")
        self._file.truncate(size)
        self._size = size
        self._unsynced = 0

    @property
    def full(self) -> bool:
        """Whether a checkpoint is due."""
        return self._unsynced >= SYNC_BYTES

    def add(self, lines: Sequence[bytes]) -> None:
        """Write events."""
        for line in lines:
            self._file.write(line)
            self._file.write(b"\n")
            self._unsynced += len(line) + 1

    def flush(self) -> tuple[list[PartFile], int]:
        """Make what was written durable; return no parts, and the size of the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._size += self._unsynced
        self._unsynced = 0
        return [], self._size

    def close(self, *, complete: bool) -> None:
        """Close the file; one that is complete gets its name."""
        self._file.close()
        if complete:
            self._partial.rename(self._path)
            sync_folder(self._path.parent)
