"""A flow file is checked at load, and every error says file, line and reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow

LineOf = Callable[[str, str], int]


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidFlow) as caught:
        load_flow(text, name="small.yaml")
    assert all(problem.file == "small.yaml" for problem in caught.value.problems)
    return [(problem.line, problem.place, problem.reason) for problem in caught.value.problems]


def test_the_small_flow_loads(small: str) -> None:
    flow = load_flow(small)
    assert flow.greeting == "Good evening."
    assert flow.slots["day"] == {"today": "today", "tomorrow": "tomorrow"}
    assert flow.phrases["yes"] == ["yes please"]


def test_the_booking_flow_loads(booking: Flow) -> None:
    assert (booking.id, booking.entry, set(booking.agents)) == ("booking", "host", {"host", "manager"})


def test_a_problem_is_printed_as_file_line_place_and_reason(
    tmp_path: Path, small: str, line_of: LineOf
) -> None:
    file = tmp_path / "small.yaml"
    broken = small.replace("entry: host", "entry: waiter")
    file.write_text(broken)
    with pytest.raises(InvalidFlow) as caught:
        load_flow(file)
    line = line_of(broken, "entry: waiter")
    assert f"{file}:{line}: entry: there is no agent 'waiter'; there is host, chief" in str(caught.value)


def test_a_missing_file_is_a_problem_of_that_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFlow, match="cannot be read"):
        load_flow(tmp_path / "nowhere.yaml")


def test_all_problems_are_reported_in_the_order_of_the_lines(small: str) -> None:
    broken = small.replace("hear: book", "hear: boock").replace("vad: silero", "vad: gold")
    found = problems(broken)
    assert len(found) == 3  # no such provider, no such phrase, and nobody hears the phrase that is there
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)


MISTAKES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text())


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found_at_its_line(name: str, small: str) -> None:
    mistake = MISTAKES[name]
    assert mistake["change"] in small
    broken = small.replace(mistake["change"], mistake["to"], 1)
    blamed = [number for number, line in enumerate(broken.splitlines(), 1) if mistake["line"] in line]
    assert any(
        line in blamed and place == mistake["place"] and mistake["reason"] in reason
        for line, place, reason in problems(broken)
    ), problems(broken)


def test_the_flow_of_the_guide_loads() -> None:
    guide = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-flow.md"
    _, _, rest = guide.read_text().partition("```yaml\n")
    assert load_flow(rest.partition("```")[0]).id == "opening-hours"


def test_an_empty_file_is_refused() -> None:
    assert problems("# nothing\n") == [(1, "", "the file is empty")]
