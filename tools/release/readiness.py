"""What must be so before a release: a clean tree, a new version, a section of it in the changelog."""

import re
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tools.release.version import ROOT, current, other_bounds, other_charts

GIT_SECONDS = 30
SECTION = r"(?m)^## \[?{}\]? - (\d{{4}}-\d{{2}}-\d{{2}})$"
UNRELEASED = re.compile(r"(?ms)^## \[?Unreleased\]?$(.*?)(?=^## |\Z)")


def problems(root: Path = ROOT) -> list[str]:
    """Describe what stands against a release of this checkout, each with what to do."""
    version = current(root)
    found = other_bounds(root) + other_charts(root)
    found += changelog_problems((root / "CHANGELOG.md").read_text(), version)
    if changed := git(root, "status", "--porcelain", "--untracked-files=all").splitlines():
        found.append(f"the tree is not clean: commit or remove {', '.join(line[3:] for line in changed[:5])}")
    if git(root, "tag", "--list", tag_of(version)):
        found.append(
            f"the tag {tag_of(version)} exists: a version is released once; "
            "set the next one with python -m tools.release.version"
        )
    return found


def tag_of(version: str) -> str:
    """Return the git tag of a version."""
    return f"v{version}"


def section_date(changelog: str, version: str) -> str | None:
    """Return the date of the section of a version in a changelog, or None without one."""
    found = re.search(SECTION.format(re.escape(version)), changelog)
    return found[1] if found else None


def changelog_problems(changelog: str, version: str) -> list[str]:
    """Describe what a changelog lacks before the release of a version."""
    found = []
    if not (dated := section_date(changelog, version)):
        wanted = f"## {version} - <date>"
        found.append(f"CHANGELOG.md has no section '{wanted}': put that line below '## Unreleased'")
    elif not _was(dated):
        found.append(f"CHANGELOG.md dates {version} {dated}: write the day of the release, as 2026-11-30")
    if (unreleased := UNRELEASED.search(changelog)) and unreleased[1].strip():
        found.append(f"CHANGELOG.md still has lines under '## Unreleased': move them to {version}")
    return found


def _was(text: str) -> bool:
    """Whether a day has begun somewhere on earth."""
    try:
        return date.fromisoformat(text) <= (datetime.now(UTC) + timedelta(hours=14)).date()
    except ValueError:
        return False


def commit(root: Path = ROOT) -> tuple[str, int]:
    """Return the id of the commit and its time in unix seconds."""
    name, seconds = git(root, "log", "-1", "--no-show-signature", "--format=%H %ct").split()
    return name, int(seconds)


def check_repository(root: Path = ROOT) -> None:
    """Check that a folder is the top of a repository, and not only somewhere in one. Raises RuntimeError."""
    try:
        top = git(root, "rev-parse", "--show-toplevel")
    except RuntimeError as error:
        raise RuntimeError(f"{_NO_CLONE}\n{error}") from None
    if not Path(top).samefile(root):
        raise RuntimeError(f"{_NO_CLONE}\n{root} is a folder of the repository {top}")


_NO_CLONE = "a release is made of a commit: run this in a clone of the repository, not in an archive of it"


def git(root: Path, *arguments: str) -> str:
    """Return the output of git. Raises RuntimeError with its error."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except FileNotFoundError:
        raise RuntimeError("git is not installed, or not on the path") from None
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.rstrip()
