"""Expand, then contract: the release before passes its own tests of the database on this version's schema."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.upgrade.new_schema import NEW_PATH, THEN
from tests.upgrade.previous import ROOT, path_of

TESTS = ("tests/persistence/ingest", "tests/persistence/test_projection.py", "tests/session_api/sessions")
QUICK = "tests/persistence/ingest/test_ingest_batch.py"
# Tests that a schema may fail which only adds, each with the reason.
DESELECTED = {
    "tests/persistence/ingest/test_ingest_batch.py::test_the_log_keeps_the_exact_text_and_every_column": (
        "it compares all columns of a row; `event_log` has more since 0008"
    ),
}
SECONDS = 1200.0

pytestmark = pytest.mark.timeout(SECONDS + 60)


def run_tests(tree: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run tests of the release before, with its code, on databases with this version's schema."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PYTHONPATH": os.pathsep.join((path_of(tree), str(Path(__file__).parent))),
        NEW_PATH: path_of(ROOT),
        **variables,
    }
    deselected = [f"--deselect={name}" for name in DESELECTED]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "new_schema", *deselected, *arguments]
    with TemporaryDirectory(prefix="previous-") as folder:  # a run with failures leaves its files there
        Path(folder).chmod(0o755)  # Postgres, started by root, runs as another user
        environment["TMPDIR"] = folder
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )


def test_the_release_before_works_with_this_schema(previous_tree: Path) -> None:
    found = run_tests(previous_tree, "-n", "2", *TESTS)

    print(found.stdout[-300:])
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("alter table event_log drop column tenant cascade", "column known.tenant does not exist"),
        ("alter table event_log add column region text not null", 'null value in column "region"'),
        ("alter type new_event rename attribute tenant to customer", 'column "tenant" does not exist'),
    ],
)
def test_a_migration_that_contracts_is_noticed(previous_tree: Path, statement: str, error: str) -> None:
    found = run_tests(previous_tree, "-n", "0", "-x", QUICK, **{THEN: statement})

    assert found.returncode == pytest.ExitCode.TESTS_FAILED, found.stdout[-4000:] + found.stderr[-2000:]
    assert error in found.stdout, found.stdout[-8000:]
