"""No command and no service prints a secret of its settings, whatever else is wrong with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.settings import Settings, load
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.settings import ClientSettings, StackSettings
from antiphon.persistence.settings import (
    MigrateSettings,
    PersistenceSettings,
    RecreateSettings,
    RolesSettings,
    StatusSettings,
)
from antiphon.recorder.settings import RecorderSettings
from antiphon.session_api.settings import ApiSettings
from antiphon.webhook_ingest.settings import WebhookSettings

MARKER = "m4rker-of-a-s3cret"
CLASSES: tuple[type[Settings], ...] = (
    ClientSettings,
    StackSettings,
    ApiSettings,
    WebhookSettings,
    AgentSettings,
    PersistenceSettings,
    MigrateSettings,
    StatusSettings,
    RecreateSettings,
    RolesSettings,
)
VALID = {
    "ANTIPHON_NATS_URL": f"nats://ann:{MARKER}@127.0.0.1:1",
    "ANTIPHON_NATS_USER": "ann",
    "ANTIPHON_NATS_PASSWORD": MARKER,
    "ANTIPHON_POSTGRES_DSN": f"postgresql://ann:{MARKER}@127.0.0.1:1/antiphon",
    "ANTIPHON_API_KEY": f"ak_{MARKER}",
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": MARKER,
}
INVALID = {
    "ANTIPHON_NATS_URL": f"http://{MARKER}",
    "ANTIPHON_NATS_CREDS": f"-----BEGIN USER NKEY SEED-----\n{MARKER}\n",
    "ANTIPHON_NATS_KEY": f"-----BEGIN PRIVATE KEY-----\n{MARKER}\n",
    "ANTIPHON_POSTGRES_DSN": f"host=h password={MARKER}",
    "ANTIPHON_API_KEY": f"ä{MARKER}",
    "ANTIPHON_API_URL": f"http://ann:{MARKER}@h",
    "LIVEKIT_URL": f"ws://ann:{MARKER}@h",
    "LIVEKIT_API_KEY": "",
}
WRONG_ELSEWHERE = {
    "ANTIPHON_API_PORT": "x",
    "ANTIPHON_LOG_LEVEL": "loud",
    "ANTIPHON_NATS_CERT": "/none",
    "ANTIPHON_POSTGRES_POOL_TIMEOUT_SECONDS": "0",
    "ANTIPHON_TENANT": "*",
}
PROGRAMS = (
    ("antiphon.session_api",),
    ("antiphon.webhook_ingest",),
    ("antiphon.agent_worker", "run"),
    ("antiphon.persistence", "run"),
    ("antiphon.persistence", "status"),
    ("antiphon.cli.supervisor",),
)
COMMANDS = ("up", "down", "status", "logs", "sessions", "tail", "livekit")


def _is_secret(variable: str) -> bool:
    named = any(
        word in variable for word in ("SECRET", "PASSWORD", "TOKEN_KEY", "API_KEY", "DSN", "NATS_URL")
    )
    return named and variable != "LIVEKIT_API_KEY"  # which every token contains


@pytest.mark.parametrize("settings", CLASSES)
def test_secret_settings_are_marked_as_such(settings: type[Settings]) -> None:
    shown = [str(field.validation_alias) for field in settings.model_fields.values() if field.repr]

    assert [variable for variable in shown if _is_secret(variable)] == []


@pytest.mark.parametrize("wrong", [*INVALID, *WRONG_ELSEWHERE])
@pytest.mark.parametrize("settings", CLASSES)
def test_an_error_of_settings_shows_no_secret(
    settings: type[Settings], wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {**VALID, wrong: ({**INVALID, **WRONG_ELSEWHERE})[wrong]}.items():
        monkeypatch.setenv(variable, value)

    try:
        read: object = load(settings)
    except SystemExit as ended:
        read = ended.code

    try:
        raw = repr(settings())
    except ValueError as error:  # as another program would print it
        raw = str(error) + repr(error)
    captured = capsys.readouterr()
    assert MARKER not in captured.out + captured.err + repr(read) + raw


@pytest.mark.parametrize("wrong", [*INVALID, *WRONG_ELSEWHERE])
@pytest.mark.parametrize("read", [RecorderSettings.from_env, NatsAccess.from_env])
def test_an_error_of_the_recorders_settings_shows_no_secret(
    read: type[RecorderSettings], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {**VALID, wrong: ({**INVALID, **WRONG_ELSEWHERE})[wrong]}.items():
        monkeypatch.setenv(variable, value)

    try:
        found = repr(read())
    except ValueError as error:
        found = str(error) + repr(error)

    assert MARKER not in found


def _output(argv: list[str], variables: dict[str, str], home: Path) -> str:
    """Return what a process prints and what it leaves in the logs; it has one line on stderr at least."""
    done = subprocess.run(
        argv,
        env={**os.environ, **VALID, "ANTIPHON_HOME": str(home), **variables},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    logs = "".join(path.read_text() for path in home.rglob("*.log"))
    return done.stdout + done.stderr + logs


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_service_with_a_wrong_setting_prints_no_secret(program: tuple[str, ...], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", *program]
    for variables in ({**INVALID, **WRONG_ELSEWHERE}, {"LIVEKIT_API_KEY": " ", "ANTIPHON_NATS_CA": "/none"}):
        wrong = variables if program != ("antiphon.persistence", "status") else {"ANTIPHON_NATS_CA": "/none"}
        assert MARKER not in _output(argv, wrong, tmp_path / "home")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_with_a_wrong_setting_prints_no_secret(command: str, tmp_path: Path) -> None:
    argv = [str(Path(sys.prefix) / "bin" / "antiphon"), command]
    wrong = {"LIVEKIT_URL": "ws://x", "LIVEKIT_API_KEY": "", "ANTIPHON_API_URL": INVALID["ANTIPHON_API_URL"]}

    assert MARKER not in _output(argv, wrong, tmp_path / "home")


def test_status_shows_secrets_only_if_asked(tmp_path: Path) -> None:
    settings = isolated_settings(
        tmp_path / "home", livekit_url="ws://h", livekit_api_key="key", livekit_api_secret=MARKER
    )
    status = EmbeddedStack(settings).status()

    assert MARKER not in status.as_json()
    assert MARKER in status.as_json(secrets=True)
