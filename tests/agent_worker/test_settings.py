import math

import pytest

from antiphon.agent_worker.settings import AgentSettings
from antiphon.agent_worker.worker import build_server
from antiphon.chassis.settings import load


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")


def test_a_limit_of_load_can_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", "inf")
    assert math.isinf(load(AgentSettings).load_threshold)


@pytest.mark.parametrize("wrong", ["0", "1.5", "-1", "much"])
def test_a_load_that_makes_no_sense_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", wrong)
    with pytest.raises(SystemExit) as stopped:
        load(AgentSettings)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "ANTIPHON_AGENT_LOAD_THRESHOLD" in told
    assert wrong in told


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_every_level_of_logging_is_one_that_livekit_knows(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("ANTIPHON_LOG_LEVEL", level)
    assert build_server(load(AgentSettings)).log_level


def test_without_a_limit_no_load_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_AGENT_LOAD_THRESHOLD", "inf")
    report = build_server(load(AgentSettings)).load_fnc
    assert report is not None
    assert report() == 0.0  # type: ignore[call-arg] # LiveKit takes functions with and without the server
