"""A flow file is checked when it is loaded; every problem has a file, a line, a place and a reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow
from antiphon.agent_worker.flow.document import parse_yaml

LineOf = Callable[[str, str], int]


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidFlow) as caught:
        load_flow(text, CATALOG, name="small.yaml")
    assert all(problem.file == "small.yaml" for problem in caught.value.problems)
    return [(problem.line, problem.place, problem.reason) for problem in caught.value.problems]


def test_small_flow_loads(small: str) -> None:
    flow = load_flow(small, CATALOG)
    assert flow.greeting == "Good evening."
    assert flow.slots["day"] == {"today": "today", "tomorrow": "tomorrow"}
    assert flow.phrases["yes"] == ["yes please"]


def test_booking_flow_loads(booking: Flow) -> None:
    assert (booking.id, booking.entry, set(booking.agents)) == ("booking", "host", {"host", "manager"})


def test_problem_is_formatted_with_file_line_place_and_reason(
    tmp_path: Path, small: str, line_of: LineOf
) -> None:
    file = tmp_path / "small.yaml"
    broken = small.replace("entry: host", "entry: waiter")
    file.write_text(broken)
    with pytest.raises(InvalidFlow) as caught:
        load_flow(file, CATALOG)
    line = line_of(broken, "entry: waiter")
    assert f"{file}:{line}: entry: unknown agent 'waiter'; defined: host, chief" in str(caught.value)


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidFlow, match="cannot be read"):
        load_flow(tmp_path / "nowhere.yaml", CATALOG)


def test_problems_are_sorted_by_line(small: str) -> None:
    broken = small.replace("hear: book", "hear: boock").replace("vad: silero", "vad: gold")
    found = problems(broken)
    assert len(found) == 3  # unknown provider, unknown phrase, unused phrase
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)


MISTAKES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text())


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_reported_at_its_line(name: str, small: str) -> None:
    mistake = MISTAKES[name]
    assert mistake["change"] in small
    broken = small.replace(mistake["change"], mistake["to"], 1)
    lines = [number for number, line in enumerate(broken.splitlines(), 1) if mistake["line"] in line]
    assert any(
        line in lines and place == mistake["place"] and mistake["reason"] in reason
        for line, place, reason in problems(broken)
    ), problems(broken)


def test_flow_of_the_guide_loads() -> None:
    guide = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-flow.md"
    _, _, rest = guide.read_text().partition("```yaml\n")
    assert load_flow(rest.partition("```")[0], CATALOG).id == "opening-hours"


def test_empty_file_is_a_problem() -> None:
    assert problems("# nothing\n") == [(1, "", "the file is empty")]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 10_000, "{a: " * 10_000, "? " * 10_000, "a: " + "[" * 60]
)
def test_nesting_without_end_is_a_problem(text: str) -> None:
    assert problems(f"id: small\nrules:\n {text}\n") == [(3, "", "nested more than 50 levels deep")]


def test_recogniser_that_is_not_installed_is_a_problem(small: str) -> None:
    def not_installed() -> frozenset[str]:
        raise ImportError("pip install something")

    catalog = replace(CATALOG, vocabularies={"offline": not_installed})
    with pytest.raises(InvalidFlow, match=r"voice\.stt: pip install something"):
        load_flow(small, catalog)


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
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert parse_yaml(f"key: {text}", file="f").data == {"key": value}


def test_every_part_has_a_line() -> None:
    document = parse_yaml("a:\n  b:\n    - 1\n    - c: 2\n", file="f")
    assert document.lines[("a",)] == 1
    assert document.lines["a", "b", 0] == 3
    assert document.lines["a", "b", 1, "c"] == 4


def test_problem_of_a_missing_part_has_the_line_of_its_parent() -> None:
    document = parse_yaml("a:\n  b: 1\n", file="f")
    assert str(document.problem(("a", "c"), "missing")) == "f:1: a.c: missing"
