"""The import rules hold, and a forbidden import is detected."""

import re
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
    "services/fleet/src",
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


def broken(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return what is said of each broken rule, by the name of the rule."""
    details = result.stdout.partition("Broken contracts\n----------------\n")[2]
    _, *parts = re.split(r"^(\S.*)\n-{4,}\n", details, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


FORBIDDEN = [
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
]


def test_each_forbidden_import_is_detected(tree: Path) -> None:
    for number, (package, line, _) in enumerate(FORBIDDEN):
        (tree / "antiphon" / package / f"planted_{number}.py").write_text(f"{line}\n")

    result = lint(tree)

    assert result.returncode != 0
    details = broken(result)
    for number, (package, line, rule) in enumerate(FORBIDDEN):
        found = f"antiphon.{package}.planted_{number} -> {line.removeprefix('import ')} "
        assert any(rule in name and found in text for name, text in details.items()), (line, result.stdout)


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


CIRCLES: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("files", {"one": NOW.format("two"), "two": NOW.format("one")}),
    "typed": ("files", {"one": NOW.format("two"), "two": FOR_TYPES.format("one")}),
    "late": ("files", {"one": LATE.format("two"), "two": LATE.format("one")}),
    "nested": (
        "files",
        {"one/__init__": NOW.format("one.child"), "one/child": "from antiphon.contracts.one import name"},
    ),
    "folders": (
        "folders",
        {"one/a": NOW.format("two.b"), "two/c": FOR_TYPES.format("one.d"), "two/b": "", "one/d": ""},
    ),
}


def test_each_circle_is_detected(tree: Path) -> None:
    for name, (_, files) in CIRCLES.items():
        for file, text in files.items():
            path = tree / "antiphon" / "contracts" / f"{name}_{file}.py"
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(re.sub(r"contracts\.(?=one|two)", f"contracts.{name}_", text))

    result = lint(tree)

    assert result.returncode != 0
    details = broken(result)
    for name, (rule, _) in CIRCLES.items():
        assert f"{name}_one" in details[f"no circle of {rule}"], result.stdout
    one, two = "antiphon.contracts.plain_one", "antiphon.contracts.plain_two"
    assert any(f"{a} <- {b}" in details["no circle of files"] for a, b in ((one, two), (two, one)))
    assert "No cycles are allowed in antiphon.contracts." in details["no circle of folders"]
    assert "folders_" not in details["no circle of files"]  # a circle of folders alone
