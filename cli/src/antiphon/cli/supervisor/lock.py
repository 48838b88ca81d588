from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO


def take_lock(home: Path) -> IO[str] | None:
    """Take the stack's lock, which the kernel gives back when we die; None when its supervisor is alive."""
    file = _lock_file(home).open("w")
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_locked(home: Path) -> bool:
    """Whether a supervisor of this stack is alive."""
    if not _lock_file(home).exists():
        return False
    lock = take_lock(home)
    if lock is None:
        return True
    lock.close()
    return False


def _lock_file(home: Path) -> Path:
    return home / "supervisor.lock"
