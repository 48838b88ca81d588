"""The rules for source files: names, sizes, docstrings, and no unfinished code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("contracts", "chassis", "recorder", "services", "client", "cli", "examples", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ".venv" not in path.parts
]
PRODUCT = [path for path in SOURCES if "src" in path.parts]

BANNED_NAMES = {"utils", "helpers", "common", "core", "base", "misc", "manager", "service"}
HARD_LIMIT = 400
SHORT = 40
NAMED_BY_PYTHON = {"__init__.py", "__main__.py"}
# Product files under 40 lines, each with the reason why it is a file of its own.
SHORT_FILES = {
    "chassis/library_log.py": "imported by every module that logs in other people's processes",
    "chassis/http/request_id.py": "imported by the server and by the middleware",
    "cli/errors.py": "imported by every command before anything heavy",
    "cli/proxies.py": "used by the supervisor and by a command",
    "contracts/rooms.py": "the value of one bucket",
    "contracts/errors.py": "the errors of the package",
    "contracts/events/command.py": "one file per family of events",
    "contracts/events/tool.py": "one file per family of events",
    "contracts/events/usage.py": "one file per family of events",
    "agent_worker/flow/schema.py": "a script that prints the schema",
    "agent_worker/flow/template.py": "the template language of a flow",
    "agent_worker/preload.py": "the module that LiveKit's fork server preloads",
    "persistence/ingest/tracing.py": "the only user of the OpenTelemetry SDK in ingest",
    "persistence/migrations/versions/0002_batch_types.py": "one file per revision",
    "persistence/migrations/versions/0004_views.py": "one file per revision",
    "persistence/migrations/versions/0005_compatibility.py": "one file per revision",
    "persistence/sql.py": "how persistence loads SQL and fits values to columns",
    "recorder/outbox/text_journal.py": "the earlier format, to be deleted with the need for it",
}
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|mark\.(skip|xfail)\b")


def banned(path: Path) -> bool:
    return bool({path.stem, *path.parent.relative_to(ROOT).parts} & BANNED_NAMES)


def too_long(text: str) -> bool:
    return text.count("\n") > HARD_LIMIT


def undone(text: str) -> list[str]:
    return [match.group() for match in UNDONE.finditer(text)]


def undocumented(source: str) -> Iterator[str]:
    """Yield the public functions and classes of a module that have no docstring."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith("_") and ast.get_docstring(node) is None:
            yield node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_follows_the_rules(path: Path) -> None:
    text = path.read_text()

    assert not banned(path), "the name does not describe the content"
    assert not too_long(text), f"over {HARD_LIMIT} lines: split it"
    assert path == Path(__file__) or undone(text) == []


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented(path: Path) -> None:
    assert list(undocumented(path.read_text())) == []


def short_files(lines: dict[str, int], reasons: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the short files that have no reason, and the reasons that no short file needs."""
    short = {path for path, count in lines.items() if 0 < count < SHORT}
    without = [f"{path}: {lines[path]} lines" for path in sorted(short - reasons.keys())]
    return without, sorted(path for path in reasons if path not in short or not reasons[path])


def test_a_short_file_has_a_reason() -> None:
    lines = {
        str(path).partition("/src/antiphon/")[2]: path.read_text().count("\n")
        for path in PRODUCT
        if path.name not in NAMED_BY_PYTHON
    }
    without, stale = short_files(lines, SHORT_FILES)

    assert without == [], f"under {SHORT} lines: merge it, or give its reason in SHORT_FILES"
    assert stale == [], "SHORT_FILES has entries that no short file needs, or without a reason"


def test_each_rule_can_fail() -> None:
    assert banned(ROOT / "chassis" / "utils.py")
    assert banned(ROOT / "chassis" / "core" / "bus.py")
    assert too_long("\n" * (HARD_LIMIT + 1))
    assert short_files({"a.py": 39, "b.py": 40, "c.py": 1}, {"c.py": "why"}) == (["a.py: 39 lines"], [])
    assert short_files({"a.py": 40}, {"a.py": "why", "gone.py": "why"}) == ([], ["a.py", "gone.py"])
    assert short_files({"a.py": 39}, {"a.py": ""}) == ([], ["a.py"])
    assert undone("raise " + "NotImplementedError") == ["NotImplementedError"]
    assert list(undocumented("def f(): ...")) == ["f"]


def test_every_package_has_its_tests() -> None:
    packages = {
        path.relative_to(ROOT).parts for path in ROOT.glob("services/*/src/antiphon/*") if path.is_dir()
    }
    names = {parts[-1] for parts in packages if not parts[-1].endswith("egg-info")}

    for name in names | {"contracts", "chassis", "recorder", "client", "cli"}:
        assert list((ROOT / "tests" / name).rglob("test_*.py")), f"tests/{name} is empty"
