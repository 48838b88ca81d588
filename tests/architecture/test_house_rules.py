"""The rules for source files: names, sizes, docstrings, and no unfinished code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in (
        "contracts",
        "chassis",
        "recorder",
        "services",
        "client",
        "cli",
        "deploy",
        "examples",
        "tests",
        "tools",
    )
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ".venv" not in path.parts
]
PRODUCT = {path for path in SOURCES if "src" in path.parts or path.is_relative_to(ROOT / "deploy")}

BANNED_NAMES = {"utils", "helpers", "common", "core", "base", "misc", "manager", "service"}
HARD_LIMIT = 400
SHORT = 40
NAMED_BY_PYTHON = {"__init__.py", "__main__.py"}
# Product files under 40 lines, each with the reason why it is a file of its own.
SHORT_FILES = {
    "session_api/metrics.py": "each service declares its metrics in one file of this name",
    "webhook_ingest/metrics.py": "each service declares its metrics in one file of this name",
    "fleet/metrics.py": "each service declares its metrics in one file of this name",
    "chassis/health_metrics.py": "the catalogue of metrics reads files that declare metrics and nothing else",
    "agent_worker/agent_deadlines.py": "the deadlines of the agent in charge; providers know no hand-offs",
    "agent_worker/tools/build.py": "what agents need to know of tools",
    "agent_worker/answered.py": "all that begins with the caller; its parts know nothing of one another",
    "persistence/rebuild/shares.py": "used by the build and by its processes",
    "session_api/created_session.py": "used by the routes of sessions and of flows",
    "chassis/near_names.py": "what it takes to name a misspelt setting; settings are long enough",
    "chassis/library_log.py": "imported by every module that logs in other people's processes",
    "chassis/http/request_id.py": "imported by the server and by the middleware",
    "client/audit.py": "one file per part of the API, as those beside it",
    "cli/errors.py": "imported by every command before anything heavy",
    "cli/proxies.py": "used by the supervisor and by a command",
    "contracts/rooms.py": "the value of one bucket",
    "contracts/errors.py": "the errors of the package",
    "contracts/events/command.py": "one file per family of events",
    "contracts/events/tool.py": "one file per family of events",
    "contracts/events/usage.py": "one file per family of events",
    "contracts/supervision.py": "what session-api and the agent agree on",
    "agent_worker/flow/builtin.py": "used by the agents and by the scripted model",
    "agent_worker/flow/check/turns.py": "one check of a flow, as the files beside it",
    "agent_worker/flow/check/flow.py": "joins the checks of a flow",
    "agent_worker/tools/booking.py": "an example of a tool",
    "agent_worker/flow/schema.py": "used by the generator and by the error messages of flows",
    "agent_worker/preload_words.py": "a module that LiveKit's fork server preloads",
    "agent_worker/tools/survey.py": "the tool of an example flow",
    "agent_worker/preload.py": "the module that LiveKit's fork server preloads",
    "persistence/migrations/versions/0002_batch_types.py": "one file per revision",
    "persistence/migrations/versions/0004_views.py": "one file per revision",
    "persistence/migrations/versions/0005_compatibility.py": "one file per revision",
    "persistence/migrations/versions/0009_projection_lag.py": "one file per revision",
    "deploy/helm/nats_users.py": "a command of make contracts and make check: it makes one file",
    "deploy/images/health.py": "it runs in every image, without our packages",
    "persistence/command_settings.py": "what the files of commands share",
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


def faults(path: Path) -> Iterator[str]:
    """Yield the rules that a file does not follow."""
    text = path.read_text()
    if banned(path):
        yield "the name does not describe the content"
    if too_long(text):
        yield f"over {HARD_LIMIT} lines: split it"
    if path != Path(__file__) and undone(text):
        yield f"unfinished: {undone(text)}"
    if path in PRODUCT:
        for name in undocumented(text):
            yield f"{name} has no docstring"


def test_every_file_follows_the_rules() -> None:
    assert len(SOURCES) > len(PRODUCT) > 0
    assert [f"{path.relative_to(ROOT)}: {fault}" for path in SOURCES for fault in faults(path)] == []


def short_files(lines: dict[str, int], reasons: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the short files that have no reason, and the reasons that no short file needs."""
    short = {path for path, count in lines.items() if 0 < count < SHORT}
    without = [f"{path}: {lines[path]} lines" for path in sorted(short - reasons.keys())]
    return without, sorted(path for path in reasons if path not in short or not reasons[path])


def test_a_short_file_has_a_reason() -> None:
    lines = {
        str(path).partition("/src/antiphon/")[2] or str(path.relative_to(ROOT)): path.read_text().count("\n")
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
