"""The folder of a stack's state: its marker, the supervisor's lock, and private files."""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from antiphon.cli.errors import StackError

IGNORE = ".gitignore"  # also marks the folder as the state of a stack


def claim(home: Path) -> None:
    """Create the folder of a stack's state, with mode 0700 and ignored by git.

    Raises StackError if the folder has other content.
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
    """Acquire the supervisor's lock; return None if another supervisor holds it.

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
    """Open a file and lock it until it is closed; return None if it is already locked."""
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
    """Write a file atomically, with mode 0600."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
