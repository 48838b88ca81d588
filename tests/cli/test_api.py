from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.api import ApiFailed, open_api, stack_api
from antiphon.cli.errors import StackError
from antiphon.cli.status import status_of
from antiphon.client import ConnectionFailed

Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """A function that sets the variables that name a session-api."""

    def set_variables(**variables: str) -> None:
        monkeypatch.setenv("ANTIPHON_HOME", str(tmp_path / "home"))
        for name in ("ANTIPHON_API_URL", "ANTIPHON_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


async def test_the_environment_names_a_session_api(environment: Environment) -> None:
    environment(ANTIPHON_API_URL="http://api.test:8000/", ANTIPHON_API_KEY="a-key")

    async with open_api() as client:
        assert repr(client) == "<AsyncAntiphon http://api.test:8000>"


async def test_an_address_needs_a_key(environment: Environment) -> None:
    environment(ANTIPHON_API_URL="http://api.test")

    with pytest.raises(StackError, match="needs ANTIPHON_API_KEY"):
        async with open_api():
            pass


async def test_without_either_it_says_what_to_do(environment: Environment) -> None:
    environment()

    with pytest.raises(StackError, match="up`, or set ANTIPHON_API_URL"):
        async with open_api():
            pass


async def test_a_stack_without_a_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="has no API key yet"):
        async with stack_api(status_of(isolated_settings(tmp_path / "home"))):
            pass


async def test_errors_of_the_client_are_those_of_the_command_and_cannot_act_on_the_terminal(
    environment: Environment,
) -> None:
    environment(ANTIPHON_API_URL="http://api.test", ANTIPHON_API_KEY="a-key")

    with pytest.raises(ApiFailed) as failed:
        async with open_api():
            raise ConnectionFailed("it does not respond: \x1b[2J")

    assert str(failed.value) == "it does not respond: \\x1b[2J"
