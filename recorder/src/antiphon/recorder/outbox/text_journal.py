"""The journal's format before it had checksums: a header with an offset, then one line of JSON per event."""

import os
from collections.abc import Iterator

_MAGIC = b"antiphon-journal-1 "
_DIGITS = 20
_START = len(_MAGIC) + _DIGITS + 1


def is_one(header: bytes) -> bool:
    """Return whether a file with this beginning has the earlier format."""
    return header.startswith(_MAGIC)


def unpublished_lines(descriptor: int, longest: int) -> Iterator[bytes]:
    """Yield the complete lines that are not acknowledged, at most `longest` bytes of each.

    Raises OSError.
    """
    digits = os.pread(descriptor, _DIGITS, len(_MAGIC))
    size = os.fstat(descriptor).st_size
    start = int(digits) if digits.isdigit() else _START
    # an offset that is not the end of a line is wrong: publishing everything again is harmless
    if not _START <= start <= size or os.pread(descriptor, 1, start - 1) != b"\n":
        start = _START
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(start)
        while line := file.readline(longest):
            if line.endswith(b"\n"):
                yield line[:-1]
