"""YAML is read as people read it, and every part knows its line."""

import pytest

from antiphon.agent_worker.flow.document import read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("7:30", "7:30"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("null", None),
        ("12", 12),
        ("1.5", 1.5),
        ("'12'", "12"),
    ],
)
def test_a_plain_scalar_is_read_by_yaml_1_2(text: str, value: object) -> None:
    assert read_document(f"key: {text}", file="f").data == {"key": value}


def test_each_part_knows_its_line() -> None:
    document = read_document("a:\n  b:\n    - 1\n    - c: 2\n", file="f")
    assert document.lines[("a",)] == 1
    assert document.lines["a", "b", 0] == 3
    assert document.lines["a", "b", 1, "c"] == 4


def test_a_problem_of_a_missing_part_is_placed_at_what_holds_it() -> None:
    document = read_document("a:\n  b: 1\n", file="f")
    assert str(document.problem(("a", "c"), "missing")) == "f:1: a.c: missing"
