"""The committed schemas match the code; stale or breaking schemas fail the check."""

import json
from pathlib import Path

import pytest

from antiphon.contracts import generate


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
