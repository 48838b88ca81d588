"""`antiphon env` prints what a shell needs to reach the stack."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.home import claim, take_lock
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.postgres_files import INSTALLED
from antiphon.cli.supervisor.state import ServiceState, State, addresses_of, write_state

PASSWORD = 'it\'s "quoted" $HOME `id`'
NAMES = (
    "ANTIPHON_API_URL",
    "ANTIPHON_API_KEY",
    "ANTIPHON_POSTGRES_DSN",
    "ANTIPHON_NATS_URL",
    "ANTIPHON_POSTGRES_BIN",
)
PRINT = f"import json, os; print(json.dumps([os.environ.get(name) for name in {NAMES}]))"


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """Settings of a stack in a folder with a name that shells stumble over."""
    return isolated_settings(tmp_path / "my höme $(dir)")


def _evaluated(settings: StackSettings) -> subprocess.CompletedProcess[str]:
    """Evaluate what the command prints in a shell; print the variables there."""
    program = Path(sys.prefix) / "bin" / "antiphon"
    return subprocess.run(
        ["sh", "-c", 'eval "$("$1" env)"; exec "$2" -c "$3"', "sh", program, sys.executable, PRINT],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_shell_gets_the_addresses_with_their_secrets(settings: StackSettings) -> None:
    claim(settings.home)
    addresses = msgspec.structs.replace(
        addresses_of(settings),
        api_key=f"ak_{PASSWORD}",
        postgres_dsn=f"postgresql://antiphon:{quote(PASSWORD)}@127.0.0.1:5433/antiphon",
        nats_url=f"nats://antiphon:{PASSWORD}@127.0.0.1:4222",
    )
    write_state(
        settings.home, State(os.getpid(), addresses, "up", services=[ServiceState("nats", ready=True)])
    )
    lock = take_lock(settings.home)
    assert lock is not None
    with lock:
        shell = _evaluated(settings)

    assert shell.stderr == ""
    assert json.loads(shell.stdout) == [
        addresses.api_url,
        addresses.api_key,
        addresses.postgres_dsn,
        addresses.nats_url,
        str(INSTALLED / "bin"),
    ]


def test_without_a_stack_the_reason_is_on_standard_error(settings: StackSettings) -> None:
    shell = _evaluated(settings)

    assert f"no stack is up in {settings.home}" in shell.stderr
    assert json.loads(shell.stdout) == [None] * len(NAMES)
