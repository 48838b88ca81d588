"""Whatever the environment holds, a recording has settings, and one line of the log says what is wrong."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

from antiphon.recorder import fallback
from antiphon.recorder.fallback import usable_settings

GOOD = {"ANTIPHON_NATS_URL": "nats://broker:4222", "ANTIPHON_JOURNAL_DIR": "/j", "ANTIPHON_TENANT": "acme"}


def logged(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [record for record in caplog.records if record.name == fallback.__name__]
    assert record.levelno == logging.ERROR
    return record.getMessage()


def test_right_variables_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings, publishes = usable_settings(GOOD)
    assert (settings.nats_url, settings.journal_dir, settings.tenant) == (
        "nats://broker:4222",
        Path("/j"),
        "acme",
    )
    assert publishes
    assert caplog.records == []


@pytest.mark.parametrize("url", ["http://u:secret@h", "nats://u:secret", "nats://h:port", "broker"])
def test_wrong_nats_url_leaves_events_in_the_journal(url: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, publishes = usable_settings({**GOOD, "ANTIPHON_NATS_URL": url})
    assert not publishes
    assert (settings.journal_dir, settings.tenant) == (Path("/j"), "acme")
    line = logged(caplog)
    assert "recorder.not_publishing" in line
    assert "ANTIPHON_NATS_URL" in line
    assert "'/j'" in line
    assert "secret" not in line


def test_wrong_tenant_is_the_default_tenant(caplog: pytest.LogCaptureFixture) -> None:
    settings, publishes = usable_settings({**GOOD, "ANTIPHON_TENANT": "Acme Ltd"})
    assert publishes
    assert (settings.tenant, settings.nats_url) == ("default", "nats://broker:4222")
    assert "ANTIPHON_TENANT" in logged(caplog)


@pytest.mark.parametrize("variable", ["missing", "blank"])
def test_without_a_home_the_journals_are_in_the_temporary_folder(
    variable: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = dict(GOOD)
    del environment["ANTIPHON_JOURNAL_DIR"]
    if variable == "blank":
        environment["ANTIPHON_JOURNAL_DIR"] = " "
    settings, publishes = usable_settings(environment)
    assert publishes
    assert settings.journal_dir == tmp_path / f"antiphon-journals-{os.getuid()}"
    assert settings.journal_dir.stat().st_mode & 0o777 == 0o700
    assert "ANTIPHON_JOURNAL_DIR" in logged(caplog)


def test_planted_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"antiphon-journals-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert fallback._temporary_folder().resolve().parent == tmp_path
    assert fallback._temporary_folder().resolve() != tmp_path / "elsewhere"
