"""The import rules hold, and a forbidden import is detected."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")
PACKAGES = (
    "contracts/src",
    "chassis/src",
    "recorder/src",
    "services/session-api/src",
    "services/agent-worker/src",
    "services/persistence/src",
    "services/webhook-ingest/src",
    "client/src",
    "cli/src",
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINTER, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the packages, so that a test can add a forbidden import."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    return tmp_path


def test_the_packages_follow_the_rules(tree: Path) -> None:
    result = lint(tree)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("package", "line", "rule"),
    [
        ("session_api", "import antiphon.persistence", "never import one another"),
        ("contracts", "import antiphon.chassis", "layers"),
        ("chassis", "import antiphon.session_api", "layers"),
        ("contracts", "import socket", "contracts do no I/O"),
        ("session_api", "import nats", "only chassis.bus imports nats and faststream"),
        ("agent_worker", "import antiphon.chassis.database", "never touch the database"),
        ("session_api", "import alembic", "only persistence"),
        ("client", "import antiphon.chassis.retry", "the client needs contracts"),
        ("client", "import pydantic", "the client needs contracts"),
        ("cli", "import antiphon.persistence", "is a user of the services"),
    ],
)
def test_a_forbidden_import_is_detected(tree: Path, package: str, line: str, rule: str) -> None:
    (tree / "antiphon" / package / "planted.py").write_text(f"{line}\n")

    result = lint(tree)

    assert result.returncode != 0
    broken = [text for text in result.stdout.splitlines() if "BROKEN" in text]
    assert any(rule in text for text in broken), result.stdout


LATE = """
def later() -> None:
    import antiphon.contracts.{0}
"""
FOR_TYPES = """
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import antiphon.contracts.{0}
"""
NOW = "import antiphon.contracts.{0}\n"


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"one": NOW.format("two"), "two": NOW.format("one")}, "files"),
        ({"one": NOW.format("two"), "two": FOR_TYPES.format("one")}, "files"),
        ({"one": LATE.format("two"), "two": LATE.format("one")}, "files"),
        (
            {"one/__init__": NOW.format("one.child"), "one/child": "from antiphon.contracts.one import name"},
            "files",
        ),
        (
            {"one/a": NOW.format("two.b"), "two/c": FOR_TYPES.format("one.d"), "two/b": "", "one/d": ""},
            "folders",
        ),
    ],
    ids=["plain", "for types", "late", "package and file", "folders"],
)
def test_a_circle_is_detected(tree: Path, files: dict[str, str], rule: str) -> None:
    for name, text in files.items():
        path = tree / "antiphon" / "contracts" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)

    result = lint(tree)

    assert result.returncode != 0
    assert f"no circle of {rule} BROKEN" in result.stdout
    named = "antiphon.contracts.one" if rule == "files" else "No cycles are allowed in antiphon.contracts."
    assert named in result.stdout.partition("Broken contracts")[2]
