"""Settings of session-api: an invalid value is reported with its variable."""

import pytest

from antiphon.chassis.settings import load
from antiphon.session_api.settings import ApiSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The required variables."""
    monkeypatch.setenv("ANTIPHON_POSTGRES_DSN", "postgresql://localhost/antiphon")
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")
    monkeypatch.delenv("LIVEKIT_URL", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANTIPHON_API_PORT", "0"),
        ("ANTIPHON_API_HEARTBEAT_SECONDS", "never"),
        ("ANTIPHON_API_TOKEN_TTL_SECONDS", "1"),
        ("ANTIPHON_LIVEKIT_PUBLIC_URL", "ftp://livekit"),
        ("ANTIPHON_API_PUBLIC_URL", "api.example.com"),
        ("ANTIPHON_API_PUBLIC_URL", "https://api.example.com/?key=1"),
        ("ANTIPHON_API_CORS_ORIGINS", "https://console.example.com/app"),
        ("ANTIPHON_API_HSTS_SECONDS", "-1"),
        ("ANTIPHON_API_DEADLINE_SECONDS", "0"),
        ("ANTIPHON_API_MAX_CONNECTIONS", "0"),
        ("ANTIPHON_API_MAX_CONNECTIONS_PER_ADDRESS", "-1"),
        ("ANTIPHON_API_KEEP_ALIVE_SECONDS", "0"),
    ],
)
def test_invalid_value_is_named(
    variable: str, value: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv(variable, value)

    with pytest.raises(SystemExit) as stopped:
        load(ApiSettings)

    assert stopped.value.code == 2
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize(
    ("public", "expected"),
    [
        (None, "ws://127.0.0.1:7880"),
        ("https://livekit.example.org", "wss://livekit.example.org"),
        ("http://livekit.example.org", "ws://livekit.example.org"),
        ("wss://livekit.example.org", "wss://livekit.example.org"),
    ],
)
def test_callers_get_a_websocket_url(
    public: str | None, expected: str, environment: pytest.MonkeyPatch
) -> None:
    if public is not None:
        environment.setenv("ANTIPHON_LIVEKIT_PUBLIC_URL", public)

    assert load(ApiSettings).callers_livekit_url == expected


@pytest.mark.parametrize("whose", ["KEY", "TENANT"])
def test_a_quota_of_streams_leaves_connections_to_others(
    whose: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = f"ANTIPHON_API_QUOTA_STREAMS_PER_{whose}"
    environment.setenv(variable, "300")
    environment.setenv("ANTIPHON_API_MAX_CONNECTIONS", "300")

    with pytest.raises(SystemExit):
        load(ApiSettings)

    [line] = capsys.readouterr().err.splitlines()
    assert line == f"{variable} is 300: it must be below ANTIPHON_API_MAX_CONNECTIONS, which is 300"


def test_default_quotas_of_streams_follow_the_connections(environment: pytest.MonkeyPatch) -> None:
    assert load(ApiSettings).stream_quotas == (500, 1000)
    environment.setenv("ANTIPHON_API_MAX_CONNECTIONS", "100")
    assert load(ApiSettings).stream_quotas == (25, 50)
    environment.setenv("ANTIPHON_API_QUOTA_STREAMS_PER_KEY", "99")
    environment.setenv("ANTIPHON_API_QUOTA_STREAMS_PER_TENANT", "0")
    assert load(ApiSettings).stream_quotas == (99, 0)
