"""What is committed is what the code says; stale or breaking schemas fail the check."""

import json
from pathlib import Path

import pytest

from antiphon.contracts import generate


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a package folder with freshly written schemas."""
    monkeypatch.setattr(generate, "PACKAGE", tmp_path)
    monkeypatch.setattr(generate, "SCHEMAS", tmp_path / "schemas")
    monkeypatch.setattr(generate, "ASYNCAPI", tmp_path / "asyncapi.json")
    monkeypatch.setattr(generate.breaks, "__defaults__", (tmp_path / "schemas",))
    assert generate.main([]) == 0
    return tmp_path


def test_the_committed_files_are_fresh() -> None:
    assert generate.main(["--check"]) == 0


def test_fresh_files_pass(committed: Path) -> None:
    assert generate.main(["--check"]) == 0


def test_a_stale_file_fails_and_is_named(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (committed / "schemas" / "turn.saved.v1.schema.json").unlink()

    assert generate.main(["--check"]) == 1
    assert "stale: schemas/turn.saved.v1.schema.json" in capsys.readouterr().err


def test_a_breaking_change_fails_and_is_never_written_over(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = committed / "schemas" / "turn.saved.v1.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["mood"] = {"type": "string"}  # a field that the code has since lost
    path.write_text(generate.render(schema))

    assert generate.main([]) == 1
    assert "turn.saved.v1.schema.json: /mood: was removed" in capsys.readouterr().err
    assert json.loads(path.read_text()) == schema


def test_an_event_that_vanished_is_a_break(committed: Path) -> None:
    (committed / "schemas" / "turn.sung.v1.schema.json").write_text("{}")

    assert generate.main(["--check"]) == 1
