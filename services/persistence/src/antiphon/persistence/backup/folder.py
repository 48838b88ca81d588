"""The folder of a backup: a draft beside it until all is on the disk, and then renamed."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from antiphon.persistence.backup.manifest import NAME, BackupError, File, Manifest, encode

LOCK = "lock"


class Draft:
    """A backup that is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def file(self, name: str) -> Iterator["Written"]:
        """Write a file; it is on the disk when the block ends."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("xb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            written = Written(name, stream.write)
            yield written
            stream.flush()
            os.fsync(stream.fileno())
        _sync(path.parent)


class Written:
    """The size and checksum of what was written to a file, and the number of its entries."""

    def __init__(self, name: str, write: Callable[[bytes], object]) -> None:
        self._name = name
        self._write = write
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.entries = 0

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._write(chunk)
        self._digest.update(chunk)
        self.bytes += len(chunk)

    def write_line(self, entry: msgspec.Struct) -> None:
        """Append an entry as a line of JSON."""
        self.write(msgspec.json.encode(entry) + b"\n")
        self.entries += 1

    def done(self) -> File:
        """Return what the manifest says of the file."""
        return File(self._name, self.bytes, self._digest.hexdigest(), self.entries)


@contextmanager
def new_backup(target: Path) -> Iterator[Draft]:
    """Write a backup that `publish` makes whole; otherwise nothing is left.

    Raises BackupError when the target is not empty, or another process writes it.
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise BackupError(f"{target} exists and is not empty: name a new folder for the backup.")
    draft = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(draft / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{draft} cannot be made: {error.strerror}.") from error
    try:
        if not _is_locked(lock, draft / LOCK):
            raise BackupError(f"Another process writes {target}: wait for its end.")
        _clear(draft)  # of a process that was killed
        try:
            yield Draft(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # after `publish`, there is none
    finally:
        os.close(lock)


def publish(draft: Draft, target: Path, manifest: Manifest) -> None:
    """Make the backup whole: write the manifest, and rename the folder."""
    with draft.file(NAME) as file:
        file.write(encode(manifest))
    _sync(draft.folder)
    draft.folder.rename(target)  # over an empty folder
    (target / LOCK).unlink()  # not before: another process would take the folder for one that is left
    _sync(target)
    _sync(target.parent)


def _is_locked(lock: int, path: Path) -> bool:
    """Lock a file; return whether this process has it, and it is still the file of this path."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _clear(draft: Path) -> None:
    for path in draft.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
