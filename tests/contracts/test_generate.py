"""The committed schemas match the code; stale or breaking schemas fail the check."""

import json
from pathlib import Path

import pytest

from antiphon.contracts import generate
from antiphon.contracts.events.turn import TurnSaved


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with generated schemas."""
    monkeypatch.setattr(generate, "PACKAGE", tmp_path)
    monkeypatch.setattr(generate, "SCHEMAS", tmp_path / "schemas")
    monkeypatch.setattr(generate, "ASYNCAPI", tmp_path / "asyncapi.json")
    monkeypatch.setattr(generate.breaking, "__defaults__", (tmp_path / "schemas",))
    assert generate.main([]) == 0
    return tmp_path


def test_committed_files_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_check_passes_for_generated_files(committed: Path) -> None:
    assert generate.main(["--check"]) == 0


def test_check_fails_for_a_missing_file(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (committed / "schemas" / "turn.saved.v1.schema.json").unlink()

    assert generate.main(["--check"]) == 1
    assert "stale: schemas/turn.saved.v1.schema.json" in capsys.readouterr().err


def test_breaking_change_fails_and_is_not_overwritten(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = committed / "schemas" / "turn.saved.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["mood"] = {"type": "string"}  # a field that the code no longer has
    path.write_text(generate.render(schema))

    assert generate.main([]) == 1
    assert "turn.saved.v1.schema.json: /mood: was removed" in capsys.readouterr().err
    assert json.loads(path.read_text()) == schema


def test_removed_event_is_a_breaking_change(committed: Path) -> None:
    (committed / "schemas" / "turn.sung.v1.schema.json").write_text("{}")

    assert generate.main(["--check"]) == 1


@pytest.fixture
def second_version(committed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with generated schemas of version 1, before `turn.saved` is raised to version 2."""
    monkeypatch.setattr(TurnSaved, "VERSION", 2)
    return committed


def test_an_older_version_keeps_its_schema(second_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "UPCASTERS", {("turn.saved", 1): dict})
    first = second_version / "schemas" / "turn.saved.v1.schema.json"
    text = first.read_text()

    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert (first.read_text(), first.with_name("turn.saved.v2.schema.json").exists()) == (text, True)

    first.unlink()
    assert generate.main(["--check"]) == 1


def test_a_missing_step_between_versions_fails(
    second_version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 1
    assert "turn.saved: no upcaster from version 1 to 2" in capsys.readouterr().err
