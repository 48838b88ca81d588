"""The version of all packages: `python -m tools.release.version [NEW]` prints it, or sets it.

It is written in the root pyproject.toml. The packages are released together and need one another at that
version or a later one of the same minor, so a new version also changes those bounds.
"""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
VERSION = re.compile(r'(?m)^(version = ")[^"]+(")')
FORM = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
OWN = "antiphon-"


def members(root: Path = ROOT) -> list[Path]:
    """Return the folders of our packages."""
    return sorted(
        path.parent for path in (*root.glob("*/pyproject.toml"), *root.glob("services/*/pyproject.toml"))
    )


def current(root: Path = ROOT) -> str:
    """Return the version in the root pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def other_bounds(root: Path = ROOT) -> list[str]:
    """Describe the requirements among our packages that are not of the current version."""
    wanted = f"~={current(root)}"
    return [
        f"{member.relative_to(root)}/pyproject.toml requires {text!r}: it has to end with {wanted!r}"
        for member in members(root)
        for text in _requirements(member)
        if Requirement(text).name.startswith(OWN) and str(Requirement(text).specifier) != wanted
    ]


def change(new: str, root: Path = ROOT) -> None:
    """Write a new version and the bounds of it. Raises ValueError for what is no version."""
    if not FORM.fullmatch(new):
        raise ValueError(f"{new!r} is no version: write 1.2.3, or 1.2.3rc1 before it")
    path = root / "pyproject.toml"
    path.write_text(VERSION.sub(rf"\g<1>{new}\g<2>", path.read_text(), count=1))
    bound = re.compile(rf'("{OWN}[a-z-]+(?:\[[a-z,]+\])?)~=[^"]+"')
    for member in members(root):
        path = member / "pyproject.toml"
        path.write_text(bound.sub(rf'\g<1>~={new}"', path.read_text()))


def _requirements(member: Path) -> list[str]:
    project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [*project.get("dependencies", []), *(text for extra in extras for text in extra)]


def main(arguments: list[str]) -> int:
    """Print or set the version; return the exit code."""
    if len(arguments) > 1:
        print("usage: python -m tools.release.version [NEW]", file=sys.stderr)
        return 2
    try:
        for new in arguments:
            change(new)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(current())
    if arguments:
        print("next: make install, make contracts, and a section of it in CHANGELOG.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
