from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.chassis.settings import load
from antiphon.cli.settings import ClientSettings, StackSettings


def test_home_is_read_from_its_variable_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.setenv("ANTIPHON_HOME", str(tmp_path))

    assert load(StackSettings).home == tmp_path


def test_home_defaults_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    assert load(StackSettings).home == tmp_path / ".antiphon"


def test_environment_reproduces_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = isolated_settings(tmp_path)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    assert load(StackSettings) == settings


def test_isolated_stacks_share_no_port(tmp_path: Path) -> None:
    one, other = (isolated_settings(tmp_path).model_dump() for _ in range(2))
    ports = [value for stack in (one, other) for name, value in stack.items() if name.endswith("_port")]

    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("name", "value"), [("ANTIPHON_API_PORT", "eighty"), ("ANTIPHON_NATS_PORT", "70000")]
)
def test_wrong_value_exits_with_code_2_and_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load(StackSettings)

    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert name in message
    assert value in message


def test_external_livekit_needs_its_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "ws://127.0.0.1:1")
    for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SystemExit):
        load(StackSettings)

    assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in capsys.readouterr().err


def test_default_flows_are_those_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_FLOWS", raising=False)

    assert (load(StackSettings).flows / "booking.yaml").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("ANTIPHON_API_URL", "http://[::1"), ("ANTIPHON_API_KEY", "schlüssel")]
)
def test_wrong_client_setting_exits_and_hides_the_key(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit):
        load(ClientSettings)

    message = capsys.readouterr().err
    assert message.startswith(f"{name} is ")
    assert "schlüssel" not in message


def test_settings_checked_together_print_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "ws://x")
    monkeypatch.delenv("LIVEKIT_API_KEY", raising=False)
    monkeypatch.setenv("LIVEKIT_API_SECRET", "hush-hush")

    with pytest.raises(SystemExit):
        load(StackSettings)

    assert capsys.readouterr().err == "LIVEKIT_URL needs LIVEKIT_API_KEY and LIVEKIT_API_SECRET\n"


def test_a_user_without_a_home_directory_must_name_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ANTIPHON_CACHE", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)  # has no entry in /etc/passwd

    with pytest.raises(SystemExit):
        load(StackSettings)

    assert "ANTIPHON_CACHE" in (message := capsys.readouterr().err)
    assert "no home directory: set HOME, or name a folder" in message
    monkeypatch.setenv("ANTIPHON_CACHE", str(tmp_path))
    assert load(StackSettings).cache == tmp_path


@pytest.mark.parametrize("url", ["ws://u@h", "ws://u:p@h", "wss://h?access_token=x", "wss://h#x", "ws://a b"])
def test_a_livekit_url_is_an_address_only(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", url)

    with pytest.raises(SystemExit):
        load(StackSettings)

    assert capsys.readouterr().err.startswith("LIVEKIT_URL is ")
