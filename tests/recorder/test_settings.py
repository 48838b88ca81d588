from pathlib import Path

import pytest

from antiphon.recorder import RecorderSettings


def test_unset_variables_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = RecorderSettings.from_env({})
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.journal_dir == Path("/state/antiphon/journals")


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_NATS_URL", "tls://broker:4222")
    monkeypatch.setenv("ANTIPHON_JOURNAL_DIR", "/var/journals")
    monkeypatch.setenv("ANTIPHON_TENANT", "acme")
    expected = RecorderSettings(
        nats_url="tls://broker:4222", journal_dir=Path("/var/journals"), tenant="acme"
    )
    assert RecorderSettings.from_env() == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANTIPHON_NATS_URL", "http://user:secret@broker"),
        ("ANTIPHON_NATS_URL", "nats://user:secret"),
        ("ANTIPHON_NATS_URL", "nats://:4222"),
        ("ANTIPHON_NATS_URL", "nats://broker:99999"),
        ("ANTIPHON_NATS_URL", "nats://[::1"),
        ("ANTIPHON_JOURNAL_DIR", "  "),
        ("ANTIPHON_TENANT", "Acme Ltd"),
    ],
)
def test_wrong_value_raises_and_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=variable) as raised:
        RecorderSettings.from_env({variable: value})
    assert "secret" not in str(raised.value)


def test_a_journal_directory_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    assert RecorderSettings.from_env({"ANTIPHON_JOURNAL_DIR": "/j"}).journal_dir == Path("/j")
    with pytest.raises(ValueError, match="ANTIPHON_JOURNAL_DIR"):
        RecorderSettings.from_env({})


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_path_may_be_a_string() -> None:
    settings = RecorderSettings(journal_dir="/j", nats_creds="/creds")  # type: ignore[arg-type] # untyped code
    assert (settings.journal_dir, settings.nats_creds) == (Path("/j"), Path("/creds"))
