"""`antiphon status`."""

from rich.text import Text

from antiphon.chassis.settings import load
from antiphon.cli.screen import out, table
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
