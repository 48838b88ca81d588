"""Secrets in files: the same rules for every variable, errors that name it, and never what is in the file."""

import os
from pathlib import Path

import pytest

from antiphon.agent_worker.settings import AgentSettings
from antiphon.agent_worker.tools.secrets import Secrets
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.secret_files import MAX_BYTES, InvalidSecretFile, read_secret, secret_of
from antiphon.chassis.settings import Settings, load
from antiphon.cli.settings import ClientSettings, StackSettings
from antiphon.client import AntiphonError
from antiphon.client.transport import target
from antiphon.persistence.settings import PersistenceSettings
from antiphon.recorder.settings import RecorderSettings
from antiphon.session_api.settings import ApiSettings

CANARY = "c4nary-of-a-s3cret-in-a-file-0123456789"
VALUES = {
    "ANTIPHON_NATS_URL": f"nats://ann:{CANARY}@127.0.0.1:1",
    "ANTIPHON_NATS_USER": "ann",
    "ANTIPHON_NATS_PASSWORD": CANARY,
    "ANTIPHON_POSTGRES_DSN": f"postgresql://ann:{CANARY}@127.0.0.1:1/antiphon",
    "ANTIPHON_BOOTSTRAP_API_KEY": CANARY,
    "ANTIPHON_API_KEY": CANARY,
    "LIVEKIT_API_KEY": "APIkey",
    "LIVEKIT_API_SECRET": CANARY,
}
CLASSES: tuple[type[Settings], ...] = (
    ApiSettings,
    AgentSettings,
    PersistenceSettings,
    ClientSettings,
    StackSettings,
)
TROUBLE = ("missing", "folder", "empty", "blank", "large", "binary", "pipe", "nul")


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def spoilt(folder: Path, how: str) -> Path:
    path = folder / how
    contents = {
        "empty": b"",
        "blank": b" \n\n",
        "large": CANARY.encode() * (MAX_BYTES // len(CANARY) + 1),
        "binary": CANARY.encode() + b"\xff\xfe",
        "nul": CANARY.encode() + b"\0x",
    }
    if how in contents:
        path.write_bytes(contents[how])
    elif how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    return path


@pytest.fixture
def in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every secret in a file, as a mounted volume has them, and no secret in the environment."""
    for name, value in VALUES.items():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_FILE", str(write(tmp_path, name, f"{value}\n")))
        (tmp_path / name).chmod(0o644)
    return tmp_path


@pytest.mark.parametrize("settings", CLASSES)
def test_each_secret_of_a_service_may_be_in_a_file(
    settings: type[Settings], in_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VALUES:
        monkeypatch.setenv(name, "")  # counts as unset: the files of Compose set it so
    read = load(settings)

    for field in (name for name in settings.model_fields if name.endswith("_file")):
        secret = field.removesuffix("_file")
        variable = str(settings.model_fields[secret].validation_alias)
        expected = (in_files / variable).as_uri() if variable == "ANTIPHON_POSTGRES_DSN" else VALUES[variable]
        assert getattr(read, secret) == expected
    assert CANARY not in repr(read)


@pytest.mark.parametrize("settings", CLASSES)
def test_a_byte_order_mark_is_not_part_of_a_secret(settings: type[Settings], in_files: Path) -> None:
    """Editors of Windows put one in front; the server would only say that the password is wrong."""
    read_before = load(settings)
    for name, value in VALUES.items():
        write(in_files, name, f"\ufeff{value}\r\n")

    assert load(settings) == read_before
    assert target("https://h", None).api_key == CANARY


def test_every_secret_setting_has_a_file() -> None:
    for settings in CLASSES:
        fields = settings.model_fields
        secrets = [name for name, field in fields.items() if not field.repr and not name.endswith("_file")]
        assert [name for name in secrets if f"{name}_file" not in fields] == []


@pytest.mark.parametrize("variable", VALUES)
def test_a_secret_that_is_given_twice_is_refused(
    variable: str, in_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, VALUES[variable])
    settings = ClientSettings if variable == "ANTIPHON_API_KEY" else ApiSettings

    with pytest.raises(SystemExit):
        load(settings)

    printed = capsys.readouterr().err
    assert f"{variable} and {variable}_FILE are both set" in printed
    assert CANARY not in printed


@pytest.mark.parametrize("how", TROUBLE)
@pytest.mark.parametrize("variable", VALUES)
def test_a_file_that_cannot_be_used_is_named_by_its_variable(
    variable: str,
    how: str,
    in_files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"{variable}_FILE", str(spoilt(in_files, how)))
    settings = ClientSettings if variable == "ANTIPHON_API_KEY" else ApiSettings

    with pytest.raises(SystemExit) as ended:
        load(settings)

    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"{variable}_FILE is '{in_files}/{how}'" in printed
    assert CANARY not in printed


def test_a_secret_that_was_given_in_place_of_a_path_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (CANARY, f"/{CANARY}", f"{CANARY}\n", f"a/{CANARY}", f"{CANARY}\0"):
        with pytest.raises(InvalidSecretFile, match="X_FILE is ") as refusal:
            read_secret("X_FILE", given)
        assert CANARY not in str(refusal.value) + repr(refusal.value)


def test_line_ends_after_a_secret_are_not_part_of_it(tmp_path: Path) -> None:
    for ends in ("", "\n", "\r\n", "\n\n"):
        assert read_secret("X_FILE", write(tmp_path, "x", f" a b \t{ends}")) == " a b \t"
    assert secret_of({"X_FILE": str(write(tmp_path, "x", "one\ntwo\n"))}, "X") == "one\ntwo"
    assert secret_of({"X_FILE": "", "X": "y"}, "X") == "y"
    assert secret_of({"X": ""}, "X") is None


def test_the_recorder_and_the_consumer_read_the_same_files(in_files: Path) -> None:
    access = NatsAccess.from_env()

    assert RecorderSettings.from_env().nats == access == load(AgentSettings).nats
    assert load(AgentSettings).recorder.nats == access
    assert (access.user, access.password) == ("ann", CANARY)
    assert CANARY not in repr(access) + repr(RecorderSettings.from_env())


def test_the_access_of_nats_is_what_its_files_hold_now(in_files: Path) -> None:
    access = NatsAccess.from_env()

    write(in_files, "ANTIPHON_NATS_PASSWORD", "next")

    assert access.password == CANARY
    assert access.current().options()["password"] == "next"


def test_the_client_reads_the_key_from_a_file(in_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = target("https://h", None)
    assert where.api_key == CANARY
    assert CANARY not in repr(where)
    assert target("https://h", "given").api_key == "given"
    for how in (*TROUBLE[:5], "pipe"):
        monkeypatch.setenv("ANTIPHON_API_KEY_FILE", str(spoilt(in_files, how)))
        with pytest.raises(AntiphonError, match=r"ANTIPHON_API_KEY_FILE|API key") as refusal:
            target("https://h", None)
        assert CANARY not in str(refusal.value)
        if how == "folder":
            (in_files / how).rmdir()
    monkeypatch.setenv("ANTIPHON_API_KEY", CANARY)
    with pytest.raises(AntiphonError, match="both set"):
        target("https://h", None)


def test_secrets_of_flows_are_read_when_a_call_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = write(tmp_path, "token", f"{CANARY}\n")
    environment = {
        "ANTIPHON_SECRET_CRM_FILE": str(token),
        "ANTIPHON_SECRET_ERP": "plain",
        "ANTIPHON_SECRET_GONE_FILE": str(tmp_path / "gone"),
    }

    secrets = Secrets(environment)

    assert dict(secrets) == {"secret.CRM": CANARY, "secret.ERP": "plain"}
    assert secrets.hide(f"a {CANARY}") == "a ***"
    assert "ANTIPHON_SECRET_GONE_FILE is" in str([vars(record).get("error") for record in caplog.records])
    write(tmp_path, "token", "rotated")
    assert Secrets(environment)["secret.CRM"] == "rotated"
