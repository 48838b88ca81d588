"""Revisions that were published in the format before `voice` and `script` are read like those of today."""

from pathlib import Path

import pytest

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow

EARLIER = Path(__file__).with_name("booking_earlier.yaml")


def test_the_earlier_format_is_the_same_flow(booking: Flow) -> None:
    assert load_flow(EARLIER, CATALOG) == booking.model_copy(update={"expect": []})


@pytest.mark.parametrize(
    ("change", "to", "line", "place"),
    [
        ("stt: offline", "stt: magic", "providers:", "voice.stt"),
        (
            "hear: manager\n        say: One",
            "hear: boss\n        say: One",
            "hear: boss",
            "agents.host.script.rules[0].hear",
        ),
        ("  - hear: hello", "  - hear: helo", "hear: helo", "script.rules[5].hear"),
    ],
)
def test_a_mistake_has_its_line_in_the_file(change: str, to: str, line: str, place: str) -> None:
    text = EARLIER.read_text()
    assert change in text
    broken = text.replace(change, to, 1)
    with pytest.raises(InvalidFlow) as caught:
        load_flow(broken, CATALOG)

    number = next(n for n, written in enumerate(broken.splitlines(), 1) if line in written)
    assert (number, place) in [(problem.line, problem.place) for problem in caught.value.problems]
