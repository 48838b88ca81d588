"""How much free disk a stack needs, and how much each server may take of it."""

import shutil
from pathlib import Path

from antiphon.cli.errors import StackError

MIB = 1 << 20
GIB = 1 << 30

NEW_HOME_BYTES = 1 * GIB  # 64 MiB of an empty Postgres, 140 of logs, the stream's share, and room to work
HOME_BYTES = 128 * MIB  # of a home that exists: Postgres needs a checkpoint's worth to start
SMALLEST_STREAM = 128 * MIB
LARGEST_STREAM = 8 * GIB
# What the streams may reserve together: the largest one, its copy while it is made again, and the buckets. It
# does not depend on the disk, because a server that may store less than a stream reserves does not change it.
MAX_STORE_BYTES = 24 * GIB
SMALLEST_WAL = 96 * MIB  # min_wal_size of Postgres is 80
LARGEST_WAL = 1 * GIB


def require_for_home(home: Path) -> None:
    """Check that the disk has space for a stack, before anything is started.

    Raises StackError.
    """
    exists = (home / "postgres" / "data").exists()
    require(home, HOME_BYTES if exists else NEW_HOME_BYTES, "the data and logs of the stack", "ANTIPHON_HOME")


def require(folder: Path, needed: int, what: str, setting: str) -> None:
    """Check that the disk of a folder, which need not exist yet, has space for something.

    Raises StackError that names both numbers, and the setting that names another folder.
    """
    free = _free(folder)
    if free < needed:
        raise StackError(
            f"{folder} has {size(free)} of free disk, and {what} need {size(needed)}: free some, or choose "
            f"another disk with {setting}"
        )


def stream_bytes(store: Path) -> int:
    """Return what the stream of events may hold: what the store has, and a quarter of the free disk."""
    held = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) if store.exists() else 0
    share = max(SMALLEST_STREAM, _free(store) // 4)
    return min(LARGEST_STREAM, (held + share) // MIB * MIB)


def wal_bytes(folder: Path) -> int:
    """Return the size of its write-ahead log at which Postgres makes a checkpoint: an eighth of the disk."""
    return max(SMALLEST_WAL, min(LARGEST_WAL, _free(folder) // 8))


def size(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
