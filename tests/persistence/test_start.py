"""A command imports what it needs, and refuses bad arguments before anything heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.persistence.migrations import head, revisions

PROGRAM = """
import sys
from antiphon.persistence.cli import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    print("exit", ended.code, file=sys.stderr)
print(*{name.split(".")[0] for name in sys.modules})
"""


def imported(*arguments: str) -> tuple[str, set[str]]:
    """Run a command against a server that is not there; return what it said, and the packages it imported."""
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/nothing"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stderr, set(ended.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("arguments", "code", "without"),
    [
        (
            ("--help",),
            0,
            {"pydantic_settings", "structlog", "sqlalchemy", "alembic", "nats", "asyncpg", "rich"},
        ),
        (
            ("verify", "--log", "--since", "yesterday"),
            2,
            {"pydantic_settings", "structlog", "sqlalchemy", "alembic", "nats", "asyncpg", "rich"},
        ),
        (("rebuild", "nosuch"), 2, {"pydantic_settings", "alembic", "nats", "asyncpg"}),
        (("verify", "nosuch"), 2, {"pydantic_settings", "alembic", "nats", "asyncpg"}),
        (("verify", "--log"), 3, {"sqlalchemy", "alembic", "nats"}),
        (("rebuild", "turns"), 1, {"alembic"}),
        (("status",), 1, {"alembic"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_imports_what_it_needs(arguments: tuple[str, ...], code: int, without: set[str]) -> None:
    said, packages = imported(*arguments)

    assert f"exit {code}" in said or (code == 1 and "Postgres did not answer" in said)
    assert packages & without == set()


def test_the_revisions_are_those_of_alembic() -> None:
    from alembic.script import ScriptDirectory

    from antiphon.persistence import migrations

    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert {script.revision for script in scripts.walk_revisions()} == revisions()
    assert scripts.get_current_head() == head()
