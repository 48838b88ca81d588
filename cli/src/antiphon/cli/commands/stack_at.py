from antiphon.chassis.settings import load
from antiphon.cli.api import SessionApi
from antiphon.cli.errors import StackError
from antiphon.cli.screen import me
from antiphon.cli.settings import StackSettings
from antiphon.cli.status import Status, status_of


def running_stack() -> Status:
    """Return how the stack is that the environment names.

    Raises StackError when none is up.
    """
    settings = load(StackSettings)
    status = status_of(settings)
    if not any(service.ready for service in status.services):
        raise StackError(f"no stack is up in {settings.home}: run `{me()} up`")
    return status


def api_of(status: Status) -> SessionApi:
    """Open the stack's session-api with its development key."""
    if status.addresses.api_key is None:
        raise StackError(f"the stack in {status.addresses.home} has no API key yet")
    return SessionApi(status.addresses.api_url, status.addresses.api_key)
