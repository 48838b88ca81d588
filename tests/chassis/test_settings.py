"""An invalid setting prevents the start; the error names the variable, its value and what is allowed."""

import re
from pathlib import Path

import pytest
from pydantic import Field

from antiphon.chassis.settings import (
    LiveKitSettings,
    LogSettings,
    NatsSettings,
    Port,
    PostgresSettings,
    Settings,
    load,
    misspelt,
)
from antiphon.session_api.settings import ApiSettings
from antiphon.webhook_ingest.settings import WebhookSettings


class Service(NatsSettings, PostgresSettings, LogSettings):
    """A service's settings, composed of blocks."""

    port: Port = Field(8000, validation_alias="ANTIPHON_API_PORT")


DSN = "postgresql://antiphon@127.0.0.1:5433/antiphon"


def test_defaults_and_given_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_NATS_URL", raising=False)
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", DSN)
    monkeypatch.setenv("ANTIPHON_API_PORT", "8123")

    settings = load(Service)

    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.postgres_dsn == DSN
    assert settings.port == 8123
    assert settings.log_format == "json"


@pytest.mark.parametrize(
    ("variable", "given", "explained"),
    [
        ("ANTIPHON_API_PORT", "eighty", "ANTIPHON_API_PORT is 'eighty': input should be a valid integer"),
        ("ANTIPHON_API_PORT", "99999", "ANTIPHON_API_PORT is '99999': input should be less than or equal to"),
        ("ANTIPHON_NATS_URL", "http://x", "ANTIPHON_NATS_URL is (hidden): must start with nats://"),
        ("ANTIPHON_LOG_FORMAT", "xml", "ANTIPHON_LOG_FORMAT is 'xml': input should be 'json' or 'pretty'"),
        ("ANTIPHON_POSTGRES_DSN", "mysql://x", "ANTIPHON_POSTGRES_DSN is (hidden): must start with"),
    ],
)
def test_an_invalid_value_prevents_the_start(
    variable: str,
    given: str,
    explained: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", DSN)
    monkeypatch.setenv(variable, given)

    with pytest.raises(SystemExit) as ended:
        load(Service)

    assert ended.value.code == 2
    assert explained in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["ws://", "ws://:x", "ws://h:99999", "http://:7880", "wss:///rtc", "ws://h:0"]
)
def test_a_livekit_url_needs_a_host(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", url)
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")

    with pytest.raises(SystemExit):
        load(LiveKitSettings)

    assert f"LIVEKIT_URL is {url!r}: must start with ws://" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0.0004", "3601", "nan"])
def test_a_statement_timeout_that_is_none_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", DSN)
    monkeypatch.setenv("ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS", seconds)

    with pytest.raises(SystemExit):
        load(Service)


def test_an_empty_variable_of_nats_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CREDS", "USER", "PASSWORD", "CA", "CERT", "KEY"):
        monkeypatch.setenv(f"ANTIPHON_NATS_{name}", "")

    assert load(NatsSettings) == NatsSettings()


def test_every_invalid_value_gets_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANTIPHON_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("ANTIPHON_API_PORT", "0")

    with pytest.raises(SystemExit):
        load(Service)

    lines = capsys.readouterr().err.splitlines()
    assert "ANTIPHON_POSTGRES_DSN is not set: it is required" in lines
    assert any(line.startswith("ANTIPHON_API_PORT is '0'") for line in lines)


def test_a_secret_is_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "   ")
    with pytest.raises(SystemExit):
        load(LiveKitSettings)
    assert "LIVEKIT_API_SECRET is (hidden): must not be blank" in capsys.readouterr().err

    monkeypatch.setenv("LIVEKIT_API_SECRET", "hush-hush")
    assert "hush-hush" not in repr(load(LiveKitSettings))


@pytest.mark.parametrize(
    "url", ["http://u:hush-hush@h", "nats:/hush-hush@h", "hush-hush@h", "nats://h:hush@"]
)
def test_a_url_that_may_hold_a_password_is_never_printed(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", DSN)
    monkeypatch.setenv("ANTIPHON_NATS_URL", url)

    with pytest.raises(SystemExit):
        load(Service)

    printed = capsys.readouterr().err
    assert "ANTIPHON_NATS_URL is (hidden): must start with nats://" in printed
    assert "hush" not in printed


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ANTIPHON_API_PROT", "ANTIPHON_API_PORT"),
        ("ANTIPHON_API_PRT", "ANTIPHON_API_PORT"),
        ("ANTIPHON_API_PORTS", "ANTIPHON_API_PORT"),
        ("ANTIPHON_NATS_URI", "ANTIPHON_NATS_URL"),
        ("ANTIPHON_POSTGRES_POOL_TIMEOUT", "ANTIPHON_POSTGRES_POOL_TIMEOUT_SECONDS"),
    ],
)
def test_a_misspelt_variable_is_named(
    given: str, meant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", DSN)
    monkeypatch.setenv(given, "17")

    load(Service)

    assert capsys.readouterr().err == f"{given} is not a setting: did you mean {meant}?\n"


@pytest.mark.parametrize("settings", [ApiSettings, WebhookSettings, Service])
def test_the_variables_of_other_services_are_no_misspellings(settings: type[Settings]) -> None:
    reference = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
    documented = set(re.findall(r"`(ANTIPHON_[A-Z_]+[A-Z])`", reference.read_text()))

    assert len(documented) > 40
    assert misspelt(documented, settings) == []
