"""The version of all packages: `python -m tools.release.version [NEW]` prints it, or sets it.

It is written in the root pyproject.toml. The packages are released together and need one another at that
version or a later one of the same minor, so a new version also changes those bounds. Helm reads the version
of a chart from the chart, so it is written there too, in the form of SemVer.
"""

import re
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
VERSION = re.compile(r'(?m)^(version = ")[^"]+(")')
NUMBER = r"(0|[1-9]\d*)"  # a leading zero is no other version
FORM = re.compile(rf"({NUMBER}\.{NUMBER}\.{NUMBER})((?:a|b|rc){NUMBER})?")
OWN = "antiphon-"
CHARTS = "deploy/helm/*/Chart.yaml"
# of a chart, of what it installs, and of our chart as a dependency
CHART_VERSION = re.compile(
    r"(?m)^((?:version|appVersion): |  - name: antiphon\n    version: )(?P<version>\S+)$"
)


def members(root: Path = ROOT) -> list[Path]:
    """Return the folders of our packages."""
    return sorted(
        path.parent for path in (*root.glob("*/pyproject.toml"), *root.glob("services/*/pyproject.toml"))
    )


def current(root: Path = ROOT) -> str:
    """Return the version in the root pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def chart_version(version: str) -> str:
    """Return a version as Helm wants it: 1.2.3-rc1 for 1.2.3rc1. Raises ValueError for what is no version."""
    if not (form := FORM.fullmatch(version)):
        raise ValueError(f"{version!r} is no version: write 1.2.3, or 1.2.3rc1 before it")
    return f"{form[1]}-{form[5]}" if form[5] else form[1]


def other_bounds(root: Path = ROOT) -> list[str]:
    """Describe the requirements among our packages that are not of the current version."""
    wanted = f"~={current(root)}"
    return [
        f"{member.relative_to(root)}/pyproject.toml requires {text!r}: it has to end with {wanted!r}"
        for member in members(root)
        for text in _requirements(member)
        if Requirement(text).name.startswith(OWN) and str(Requirement(text).specifier) != wanted
    ]


def other_charts(root: Path = ROOT) -> list[str]:
    """Describe the charts that are not of the current version."""
    wanted = _of_charts(current(root))
    return [
        f"{path.relative_to(root)} has the version {found}, not {wanted[line]}: "
        f"python -m tools.release.version {current(root)} writes it"
        for path in sorted(root.glob(CHARTS))
        for line, found in CHART_VERSION.findall(path.read_text())
        if found != wanted[line]
    ]


def change(new: str, root: Path = ROOT) -> None:
    """Write a new version and the bounds of it. Raises ValueError for what is no version."""
    in_charts = _of_charts(new)
    path = root / "pyproject.toml"
    path.write_text(VERSION.sub(rf"\g<1>{new}\g<2>", path.read_text(), count=1))
    bound = re.compile(rf'("{OWN}[a-z-]+(?:\[[a-z,]+\])?)~=[^"]+"')
    for member in members(root):
        path = member / "pyproject.toml"
        path.write_text(bound.sub(rf'\g<1>~={new}"', path.read_text()))
    for path in root.glob(CHARTS):
        path.write_text(CHART_VERSION.sub(lambda line: line[1] + in_charts[line[1]], path.read_text()))


def _of_charts(version: str) -> "defaultdict[str, str]":
    """The version that belongs behind each line of a chart: images have the version of the packages."""
    return defaultdict(lambda: chart_version(version), {"appVersion: ": version})


def _requirements(member: Path) -> list[str]:
    project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [*project.get("dependencies", []), *(text for extra in extras for text in extra)]


def main(arguments: list[str]) -> int:
    """Print or set the version; return the exit code."""
    if len(arguments) > 1 or arguments in (["-h"], ["--help"]):
        asked = len(arguments) == 1
        print("usage: python -m tools.release.version [NEW]", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
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
