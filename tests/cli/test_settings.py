from pathlib import Path

import pytest

from antiphon.chassis.settings import load
from antiphon.cli.settings import StackSettings, beside


def test_home_is_moved_by_its_variable_and_by_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.setenv("ANTIPHON_HOME", str(tmp_path))

    assert load(StackSettings).home == tmp_path


def test_without_a_variable_home_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    assert load(StackSettings).home == tmp_path / ".antiphon"


def test_another_process_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = beside(tmp_path)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    assert load(StackSettings) == settings


def test_two_stacks_beside_each_other_share_no_port(tmp_path: Path) -> None:
    one, other = (beside(tmp_path).model_dump() for _ in range(2))
    ports = [value for stack in (one, other) for name, value in stack.items() if name.endswith("_port")]

    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("name", "value"), [("ANTIPHON_API_PORT", "eighty"), ("ANTIPHON_NATS_PORT", "70000")]
)
def test_a_wrong_value_ends_with_code_2_and_its_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load(StackSettings)

    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert name in message
    assert value in message


def test_a_given_livekit_needs_its_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "ws://127.0.0.1:1")
    for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SystemExit):
        load(StackSettings)

    assert "LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in capsys.readouterr().err
