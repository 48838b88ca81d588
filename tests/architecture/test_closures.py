"""A service imports only what its image holds: what it and its packages declare, and what that brings.

In the one environment of a checkout, an import that only a neighbour declared works; in the image it fails.
"""

import ast
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

import pytest
from deploy.images.build import SERVICES
from deploy.images.declared import declared, normal
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def imported(source: str) -> Iterator[str]:
    """Yield the modules and names that a file imports, late ones included, typing-only ones not."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {found for child in node.body for found in ast.walk(child)}
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(folders: tuple[Path, ...], name: str) -> Path | None:
    """Return the file of the longest part of a dotted name that is a module of these packages."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        for folder in folders:
            path = folder.joinpath("src", *parts[:length])
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.is_file():
                    return file
    return None


def outside(root: Path, service: str) -> dict[str, str]:
    """Return what a service imports from other distributions, directly or through its packages, and where."""
    folders = declared(root, service).folders
    waiting = sorted(folders[-1].rglob("*.py"))
    seen = set(waiting)
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        for name in imported(file.read_text()):
            if not name.startswith("antiphon."):
                found.setdefault(name, str(file.relative_to(root)))
                continue
            target = file_of(folders, name)
            if target is None:
                found.setdefault(name, str(file.relative_to(root)))
            elif target not in seen:
                seen.add(target)
                waiting.append(target)
    return found


@cache
def owners() -> dict[str, str]:
    """Return the distribution of each installed module, by its dotted name."""
    found = {}
    for each in distributions():
        name = normal(each.name)
        for line in (each.read_text("RECORD") or "").splitlines():
            path = line.partition(",")[0]  # no module has a comma in its name
            if path.endswith((".py", ".so")) and not path.startswith(".."):
                folder, _, file = path.rpartition("/")
                module = f"{folder}/{file.partition('.')[0]}".strip("/").removesuffix("/__init__")
                found[module.replace("/", ".")] = name
    return found


def owner(name: str) -> str | None:
    """Return the distribution that has a module, by the longest part of its name; None for Python's own."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return None
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((owners()[each] for each in names if each in owners()), f"no distribution ({name})")


def brought(requirements: tuple[str, ...]) -> set[str]:
    """Return the distributions that an installation of these requirements brings."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        name, extras = normal(requirement.name), set(requirement.extras)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in found and extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | extras
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:
            pytest.fail(f"{name} is declared, but not installed: make install")
        for text in required:
            child = Requirement(text)
            if child.marker is None or any(
                child.marker.evaluate({"extra": extra}) for extra in found[name] | {""}
            ):
                child.marker = None
                waiting.append(child)
    return set(found)


def missing(root: Path, service: str) -> list[str]:
    """Return what a service imports that an installation of it alone would not have."""
    there = {None, *brought(declared(root, service).requirements)}
    found = ((name, where, owner(name)) for name, where in outside(root, service).items())
    return sorted(f"{where} imports {name} of {whose}" for name, where, whose in found if whose not in there)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_what_its_image_has(service: str) -> None:
    assert missing(ROOT, service) == []


def test_every_service_has_an_image() -> None:
    assert {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")} == set(SERVICES)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the packages, so that a test can plant an import."""
    for name in ("contracts", "chassis", "services/webhook-ingest"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("import alembic", "imports alembic of alembic"),  # persistence declares it
        ("def late() -> None:\n    import orjson", "imports orjson of orjson"),  # session-api does
        (
            "from livekit import agents",
            "imports livekit.agents of livekit-agents",
        ),  # not livekit-api, which it has
        ("from antiphon.recorder import record", "imports antiphon.recorder.record"),  # no package of its own
        ("from antiphon.chassis.database import Database", "chassis/"),  # an extra that it does not name
    ],
)
def test_an_import_that_a_neighbour_declares_is_found(tree: Path, line: str, fault: str) -> None:
    planted = tree / "services" / "webhook-ingest" / "src" / "antiphon" / "webhook_ingest" / "planted.py"
    planted.write_text(f"{line}\n")

    found = missing(tree, "webhook-ingest")

    assert found
    assert any(fault in each for each in found), found


def test_an_import_for_types_alone_is_none() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncpg\n"
    assert list(imported(source)) == ["typing.TYPE_CHECKING"]
