"""What a service declares: its packages of this workspace, and the requirements of all of them."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OWN = "antiphon-"
NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")


class UnknownPackage(Exception):
    """A package of the workspace is required, but not there."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The folders of a service's packages, the last one its own, and the requirements that they declare."""

    folders: tuple[Path, ...]
    requirements: tuple[str, ...]


def declared(root: Path, service: str) -> Declared:
    """Return what the service and the packages that it depends on declare, with the extras that it names.

    Raises UnknownPackage when a folder of the workspace is missing.
    """
    wanted: dict[str, set[str]] = {}
    found: list[str] = []
    _visit(root, f"{OWN}{service}", set(), wanted, found)
    folders = tuple(folder_of(root, name) for name in reversed(wanted))
    return Declared(folders, tuple(dict.fromkeys(found)))


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of a package of the workspace, by the name of its distribution."""
    short = name.removeprefix(OWN)
    for folder in (root / "services" / short, root / short):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise UnknownPackage(f"{name} is required, but neither services/{short} nor {short} has a pyproject.toml")


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _visit(root: Path, name: str, extras: set[str], wanted: dict[str, set[str]], found: list[str]) -> None:
    seen = wanted.get(name)
    if seen is not None and extras <= seen:
        return
    wanted.pop(name, None)
    wanted[name] = (seen or set()) | extras  # moved to the end: it is needed by what comes before it
    project = tomllib.loads((folder_of(root, name) / "pyproject.toml").read_text())["project"]
    for requirement in _requirements(project, wanted[name]):
        match = NAME.match(requirement)
        if match is None:
            raise UnknownPackage(f"{name} requires {requirement!r}, which is not a requirement")
        required = normal(match[1])
        if required.startswith(OWN):
            named = {extra.strip() for extra in (match[2] or "").split(",")} - {""}
            _visit(root, required, named, wanted, found)
        else:
            found.append(requirement)


def _requirements(project: Mapping[str, object], extras: set[str]) -> Iterator[str]:
    lists = [project.get("dependencies", [])]
    optional = project.get("optional-dependencies", {})
    assert isinstance(optional, dict)
    lists += [optional[extra] for extra in sorted(extras)]
    for each in lists:
        assert isinstance(each, list)
        yield from each
