"""The folder of a stack's state: its marker, its locks, and private files."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from antiphon.cli.errors import StackError

MARKER = ".antiphon-home"
MARKER_TEXT = "This folder is the state of an Antiphon stack: data, credentials and logs.\n"
IGNORE = ".gitignore"
IGNORE_ALL = "*"
# what versions without the marker have put into the folder
EARLIER = {
    IGNORE,
    "credentials.json",
    "journal",
    "livekit",
    "logs",
    "nats",
    "postgres",
    "state.json",
    "supervisor.lock",
}
WRITING_SECONDS = 1.0  # from taking the supervisor's lock to having written the process id into it


def claim(home: Path) -> None:
    """Create the folder of a stack's state, with mode 0700, a marker, and ignored by git.

    Raises StackError if it cannot be used, or has content that is not of a stack; then it is unchanged.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_ours(home):
            raise StackError(
                f"{home} is not empty, and not the folder of a stack: "
                "name a new or an empty folder with ANTIPHON_HOME"
            )
        (home / MARKER).write_text(MARKER_TEXT)
        ignore = home / IGNORE
        if not ignore.exists() or IGNORE_ALL not in ignore.read_text(errors="replace").splitlines():
            ignore.write_text(f"{IGNORE_ALL}\n")
        home.chmod(0o700)
        (home / "logs").mkdir(exist_ok=True, mode=0o700)
        (home / "logs" / "supervisor.log").touch(0o600)
    except OSError as error:
        raise StackError(f"ANTIPHON_HOME is {home}: it cannot be used ({_reason(error)})") from error


def was_claimed(home: Path) -> bool:
    """Return whether a stack has ever been started in this folder."""
    return (home / MARKER).exists() or _supervisor_lock(home).exists()


def _reason(error: OSError) -> str:
    place = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{place}"


def _is_ours(home: Path) -> bool:
    entries = {path.name for path in home.iterdir()}
    if not entries or MARKER in entries:
        return True
    drafts = {name for name in entries if name.startswith((".state.json.", ".credentials.json."))}
    # A folder of anything else may have a .gitignore too, and even ours in it.
    return IGNORE in entries and entries - drafts <= EARLIER and (home / IGNORE).read_text() == "*\n"


def take_lock(home: Path) -> IO[str] | None:
    """Acquire the supervisor's lock and write our process id into it; return None if another holds it.

    The kernel releases it when the process ends.
    """
    lock = lock_file(_supervisor_lock(home))
    if lock is not None:
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock


def supervisor_of(home: Path) -> int | None:
    """Return the process id of the stack's supervisor; None if none is alive.

    A stack is alive while its supervisor holds the lock. Raises StackError if the lock does not say whose it
    is.
    """
    path = _supervisor_lock(home)
    deadline = time.monotonic() + WRITING_SECONDS
    while time.monotonic() < deadline:
        try:
            file = path.open()
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                holder = file.read().strip()
            else:
                return None
        if holder.isascii() and holder.isdigit():
            return int(holder)
        time.sleep(0.02)
    raise StackError(
        f"{path} is locked, and does not say by which process: end the `antiphon.cli.supervisor` of {home}, "
        "perhaps of an earlier version, then try again"
    )


@contextmanager
def one_command(home: Path, *, seconds: float) -> Iterator[None]:
    """Exclude other commands that start or stop the stack; wait for one that runs.

    Raises StackError if it takes longer than this.
    """
    path = home / "command.lock"
    deadline = time.monotonic() + seconds
    while (lock := lock_file(path)) is None:
        if time.monotonic() > deadline:
            raise StackError(f"another command starts or stops the stack in {home}, for {seconds:g} s now")
        time.sleep(0.05)
    with lock:
        yield


def lock_file(path: Path) -> IO[str] | None:
    """Open a file and lock it until it is closed; return None if it is already locked."""
    file = path.open("a+")
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
