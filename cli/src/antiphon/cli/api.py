"""Open a client of session-api for a command, and show its errors as those of a command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.screen import program_name, shown
from antiphon.cli.settings import ClientSettings, StackSettings
from antiphon.cli.status import Status, status_of
from antiphon.client import AntiphonError, AsyncAntiphon


class ApiFailed(StackError):
    """session-api refused a request or did not respond."""


@asynccontextmanager
async def open_api() -> AsyncIterator[AsyncAntiphon]:
    """Open the session-api of ANTIPHON_API_URL, else that of the embedded stack.

    Raises StackError when there is neither, and ApiFailed for the errors of the client.
    """
    settings = load(ClientSettings)
    if settings.url:
        if not settings.key:
            raise StackError("ANTIPHON_API_URL needs ANTIPHON_API_KEY")
        async with _opened(str(settings.url), settings.key) as client:
            yield client
        return
    stack = load(StackSettings)
    status = status_of(stack)
    if not any(service.ready for service in status.services):
        raise StackError(
            f"no stack is up in {stack.home}: run `{program_name()} up`, or set ANTIPHON_API_URL"
        )
    async with stack_api(status) as client:
        yield client


@asynccontextmanager
async def stack_api(status: Status) -> AsyncIterator[AsyncAntiphon]:
    """Open the session-api of a stack with its development key.

    Raises StackError without a key, and ApiFailed for the errors of the client.
    """
    if status.addresses.api_key is None:
        raise StackError(f"the stack in {status.addresses.home} has no API key yet")
    async with _opened(status.addresses.api_url, status.addresses.api_key) as client:
        yield client


@asynccontextmanager
async def _opened(url: str, key: str) -> AsyncIterator[AsyncAntiphon]:
    try:
        async with AsyncAntiphon(url, key) as client:
            yield client
    except AntiphonError as error:
        raise ApiFailed(shown(str(error))) from error
