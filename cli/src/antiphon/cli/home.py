"""The folder of a stack's state: whose it is, the supervisor's lock, files that only their owner may read."""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from antiphon.cli.errors import StackError

IGNORE = ".gitignore"  # its presence also marks the folder as a stack's


def claim(home: Path) -> None:
    """Make the folder of a stack's state, with mode 0700 and ignored by git.

    Raises StackError when it is a folder with other content.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    ignore = home / IGNORE
    if not ignore.exists():
        if any(home.iterdir()):
            raise StackError(f"{home} has other content: ANTIPHON_HOME must be a folder of its own")
        ignore.write_text("*\n")
    home.chmod(0o700)
    (home / "logs").mkdir(exist_ok=True, mode=0o700)


def take_lock(home: Path) -> IO[str] | None:
    """Take the supervisor's lock; return None when another supervisor holds it.

    The kernel releases it when the process ends.
    """
    return lock_file(_supervisor_lock(home))


def is_locked(home: Path) -> bool:
    """Return whether a supervisor of this stack is alive."""
    if not _supervisor_lock(home).exists():
        return False
    lock = take_lock(home)
    if lock is None:
        return True
    lock.close()
    return False


def lock_file(path: Path) -> IO[str] | None:
    """Open and lock a file until it is closed; return None when it is locked already."""
    file = path.open("w")
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _supervisor_lock(home: Path) -> Path:
    return home / "supervisor.lock"


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, atomically: readers see the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
