import math
from datetime import UTC, datetime

import pytest

from antiphon.agent_worker.settings import AgentSettings
from antiphon.agent_worker.worker import build_server
from antiphon.chassis.settings import load
from antiphon.contracts.deployment import SECRET_BYTES, Deployment

DEPLOYMENT = Deployment(
    id="testonly", secret=b"s" * SECRET_BYTES, created_at=datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")


def test_load_limit_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", "inf")
    assert math.isinf(load(AgentSettings).load_threshold)


@pytest.mark.parametrize("wrong", ["0", "1.5", "-1", "much"])
def test_invalid_load_threshold_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", wrong)
    with pytest.raises(SystemExit) as exited:
        load(AgentSettings)
    assert exited.value.code == 2
    stderr = capsys.readouterr().err
    assert "ANTIPHON_AGENT_LOAD_THRESHOLD" in stderr
    assert wrong in stderr


@pytest.mark.parametrize("blank", ["", " "])
def test_a_blank_folder_for_journals_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], blank: str
) -> None:
    monkeypatch.setenv("ANTIPHON_JOURNAL_DIR", blank)
    with pytest.raises(SystemExit) as exited:
        load(AgentSettings)
    assert exited.value.code == 2
    assert f"ANTIPHON_JOURNAL_DIR is {blank!r}: must not be blank" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_livekit_accepts_every_log_level(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("ANTIPHON_LOG_LEVEL", level)
    assert build_server(load(AgentSettings), DEPLOYMENT).log_level


def test_without_a_limit_no_load_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", "inf")
    server = build_server(load(AgentSettings), DEPLOYMENT)
    assert server.load_fnc is not None
    assert server.load_fnc(server) == 0.0  # type: ignore[call-arg] # LiveKit also takes functions without it
