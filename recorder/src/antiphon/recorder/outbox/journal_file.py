"""The file of a journal: its name, its lock, and a header with the offset up to which it is acknowledged.

Everything is written by `pwrite` at a known offset; with O_APPEND, Linux would append the header too. The
writer holds the file's lock (`flock`) until it ends, so a file that can be locked has no writer.
"""

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from antiphon.chassis.library_log import get_logger
from antiphon.recorder.outbox import text_journal
from antiphon.recorder.outbox.records import EVENT, LARGEST_BYTES, frame, read_records

log = get_logger(__name__)

SUFFIX = ".journal"
DAMAGED = ".damaged"  # a published journal with unreadable parts, kept for a person to look at
NAMES = 100  # for the journals of one job

_MAGIC = b"antiphon-journal-2 "
_DIGITS = 20
_CHECKSUM = 8
START = len(_MAGIC) + _DIGITS + 1 + _CHECKSUM + 1  # of the records
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class NotAJournal(Exception):
    """The file was not written by this module."""


class JournalFile:
    """A locked file of records."""

    def __init__(self, path: Path, descriptor: int, number: int = 1) -> None:
        self.path = path
        self.descriptor = descriptor
        self.number = number  # among the files of its job

    @classmethod
    def create(cls, path: Path) -> "JournalFile":
        """Create a file under a name that no other one has, such as `AJ_1.journal` or `AJ_1~2.journal`.

        Raises OSError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, NAMES + 1):
            named = path if number == 1 else path.with_name(f"{path.stem}~{number}{path.suffix}")
            descriptor = _create_locked(named)
            if descriptor is not None:
                return cls(named, descriptor, number)
        raise FileExistsError(f"{path} and {NAMES - 1} more journals of this job exist")

    @classmethod
    def adopt(cls, path: Path) -> "JournalFile | None":
        """Open and lock a file without a writer; return None if it has one or is gone.

        Raises NotAJournal, OSError.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            _check_regular(path, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:  # else another process has just published and removed it
                with suppress(OSError):
                    _temporary(path).unlink()  # of a writer that was killed before the rename
                return cls(path, descriptor)
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return os.fstat(self.descriptor).st_size

    def acknowledged(self) -> int | None:
        """Return the offset in the header; None if the header is damaged and the records are not.

        A file in the earlier format is converted first. Raises NotAJournal, OSError.
        """
        header = os.pread(self.descriptor, START, 0)
        if text_journal.is_one(header):
            lines = text_journal.unpublished_lines(self.descriptor, LARGEST_BYTES)
            self.replace(frame(EVENT, line) for line in lines)
            log.warning("journal.converted", extra={"path": str(self.path)})
            return START
        digits = header[len(_MAGIC) : len(_MAGIC) + _DIGITS]
        if digits.isdigit() and header == _header(int(digits)):
            return int(digits)
        if next(read_records(self.descriptor, START, self.size), None) is not None:
            return None
        # a power failure can leave a part of the header, or zeros
        if self.size > START or not (_MAGIC.startswith(header[: len(_MAGIC)]) or not header.strip(b"\0")):
            raise NotAJournal(f"{str(self.path)!a} is not a journal; delete or move it")
        return START

    def acknowledge(self, offset: int) -> None:
        """Save the offset in the header.

        Raises OSError.
        """
        _write_all(self.descriptor, _header(offset), 0)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of the data at an offset.

        Raises OSError.
        """
        _write_all(self.descriptor, data, offset)

    def cut(self, offset: int) -> None:
        """Remove what a failed write has left at the end."""
        with suppress(OSError):
            os.ftruncate(self.descriptor, offset)

    def replace(self, pieces: Iterable[bytes]) -> int:
        """Put a new file with these records in the place of this one; return its size.

        A kill leaves the one or the other. Raises OSError.
        """
        unnamed, end = _temporary(self.path), START
        with suppress(FileNotFoundError):
            unnamed.unlink()
        descriptor = os.open(unnamed, _NEW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(descriptor, _header(START), 0)
            for piece in pieces:
                _write_all(descriptor, piece, end)
                end += len(piece)
            unnamed.rename(self.path)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                unnamed.unlink()
            raise
        replaced, self.descriptor = self.descriptor, descriptor
        os.close(replaced)
        return end

    def set_aside(self) -> Path:
        """Rename the file, so that nobody adopts it; return its new name.

        Raises OSError.
        """
        with suppress(OSError):
            os.fchmod(self.descriptor, 0o600)
        kept, number = self.path.with_suffix(DAMAGED), 1
        while kept.exists():
            number += 1
            kept = self.path.with_suffix(f"{DAMAGED}{number}")
        self.path.rename(kept)
        return kept

    def close(self) -> None:
        """Close the file, which releases its lock."""
        with suppress(OSError):  # the file is closed even so
            os.close(self.descriptor)


def _check_regular(path: Path, descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotAJournal(f"{str(path)!a} is not a regular file")


def _create_locked(path: Path) -> int | None:
    """Create a file that did not exist, and lock it; None if it did, or if another process adopts it."""
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except FileExistsError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            _write_all(descriptor, _header(START), 0)
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _temporary(path: Path) -> Path:
    return path.with_suffix(".replacing")


def _header(offset: int) -> bytes:
    text = b"%s%0*d" % (_MAGIC, _DIGITS, offset)
    return b"%s %0*x\n" % (text, _CHECKSUM, crc32(text))


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data = data[written:]
        offset += written
