"""What a container would run here; the variables are tested by the migration and `helm test`."""

import sys
from typing import Any

import pytest
from tests.kubernetes.pod_environment import NotRunnable, command_of

MODULE = ("-m", "antiphon.session_api")


@pytest.mark.parametrize(
    ("container", "command"),
    [
        ({"image": "registry.example.com/voice/antiphon/session-api:1.2"}, MODULE),
        ({"image": "antiphon/session-api@sha256:ab", "args": ["run"]}, (*MODULE, "run")),
        ({"image": "any", "command": ["/opt/tini", "--", "/opt/antiphon/bin/python", *MODULE]}, MODULE),
        ({"image": "any", "command": ["python", *MODULE], "args": ["x"]}, (*MODULE, "x")),
    ],
)
def test_python_of_this_machine_runs_the_command(container: dict[str, Any], command: tuple[str, ...]) -> None:
    assert command_of(container) == (sys.executable, *command)


@pytest.mark.parametrize(
    "container", [{"image": "nginx:1"}, {"image": "any", "command": ["sh", "-c", "true"]}]
)
def test_another_program_is_not_run(container: dict[str, Any]) -> None:
    with pytest.raises(NotRunnable):
        command_of(container)
