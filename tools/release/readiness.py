"""What must be so before a release: a clean tree, a new version, a section of it in the changelog."""

import re
import subprocess
from pathlib import Path

from tools.release.version import ROOT, current, other_bounds

GIT_SECONDS = 30
SECTION = r"(?m)^## \[?{}\]? - \d{{4}}-\d{{2}}-\d{{2}}$"


def problems(root: Path = ROOT) -> list[str]:
    """Describe what stands against a release of this checkout, each with what to do."""
    version = current(root)
    found = other_bounds(root)
    if not has_section((root / "CHANGELOG.md").read_text(), version):
        wanted = f"## {version} - <date>"
        found.append(f"CHANGELOG.md has no section '{wanted}': put that line below '## Unreleased'")
    if changed := git(root, "status", "--porcelain").splitlines():
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


def has_section(changelog: str, version: str) -> bool:
    """Whether a changelog has a dated section of a version."""
    return re.search(SECTION.format(re.escape(version)), changelog) is not None


def commit(root: Path = ROOT) -> tuple[str, int]:
    """Return the id of the commit and its time in unix seconds."""
    name, seconds = git(root, "log", "-1", "--format=%H %ct").split()
    return name, int(seconds)


def git(root: Path, *arguments: str) -> str:
    """Return the output of git. Raises RuntimeError with its error."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.rstrip()
