"""`antiphon psql`: the embedded stack's own psql on its database."""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.screen import program_name
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.postgres_files import INSTALLED
from antiphon.cli.status import live_state

PROGRAM = INSTALLED / "bin" / "psql"


class Psql(NamedTuple):
    """How to start psql; the password is in the environment, since others can see the arguments."""

    arguments: list[str]
    environment: dict[str, str]


def run_psql(arguments: Sequence[str]) -> None:
    """Become psql, with its input, output and exit code.

    Raises StackError when no stack is up.
    """
    settings = load(StackSettings)
    state = live_state(settings)
    if state is None or state.addresses.postgres_dsn is None:
        raise StackError(
            f"no stack is up in {settings.home}: run `{program_name()} up`, or name its folder with "
            "ANTIPHON_HOME; for a database of your own, run psql with its DSN"
        )
    psql = psql_on(state.addresses.postgres_dsn, arguments)
    sys.stdout.flush()
    os.execve(PROGRAM, psql.arguments, psql.environment)


def psql_on(dsn: str, arguments: Sequence[str]) -> Psql:
    """Return how psql is started on a database; PG* variables that are meant for another are left out."""
    address = urlsplit(dsn)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment |= {
        "PGHOST": address.hostname or "",
        "PGPORT": str(address.port),
        "PGUSER": unquote(address.username or ""),
        "PGPASSWORD": unquote(address.password or ""),
        "PGDATABASE": address.path.lstrip("/"),
        "PGAPPNAME": "antiphon psql",
        "PGCONNECT_TIMEOUT": "10",
        "PGCLIENTENCODING": "UTF8",
    }
    return Psql([str(PROGRAM), *arguments], environment)
