"""The release before this one: which it is, its files, and how its code runs in this environment."""

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
FROM = "ANTIPHON_UPGRADE_FROM"  # a commit or tag to upgrade from
# Until there is a release: the last commit with schema 0006, two migrations and five views ago.
PINNED = "62c550711a5590196abe459968bee4c340a5bd73"
PACKAGES = (
    "contracts",
    "chassis",
    "recorder",
    "services/session-api",
    "services/agent-worker",
    "services/persistence",
    "services/webhook-ingest",
    "client",
    "cli",
)


class NoPreviousRelease(Exception):
    """The repository does not hold the release before."""


def previous_release() -> str:
    """Return what to upgrade from: what the variable names, the newest release tag before, or a commit."""
    if given := os.environ.get(FROM):
        return given
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    return tag.stdout.decode().strip() if tag.returncode == 0 else PINNED


def unpack(reference: str, folder: Path) -> Path:
    """Write the files of a commit into a folder, and return it.

    Raises NoPreviousRelease.
    """
    archive = _git("archive", "--format=tar", reference)
    if archive.returncode != 0:
        why = archive.stderr.decode().strip()
        raise NoPreviousRelease(
            f"{reference} is not in this repository ({why}): "
            "a shallow clone needs `git fetch --unshallow --tags`"
        )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def path_of(tree: Path) -> str:
    """Return the PYTHONPATH with which the packages of a tree are imported, and not the installed ones."""
    return os.pathsep.join(str(tree / package / "src") for package in PACKAGES)


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False, timeout=60)
