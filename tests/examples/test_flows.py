"""Every example flow passes its check, and the conversations that it expects."""

from pathlib import Path

import pytest

from antiphon.agent_worker.conversation.expected import run_expected
from antiphon.agent_worker.conversation.flow_file import open_flow

ROOT = Path(__file__).parents[2]
# by name: `antiphon flow new` writes the flows of who tries it into flows/, too
WITHOUT_KEYS = [ROOT / "flows" / f"{name}.yaml" for name in ("booking", "survey")]
FLOWS = [*sorted(ROOT.glob("examples/flows/*.yaml")), *WITHOUT_KEYS]


def test_the_examples_are_here() -> None:
    assert [path.stem for path in FLOWS] == ["interpreter", "support", "booking", "survey"]


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
async def test_an_example_does_what_it_says(path: Path) -> None:
    file = open_flow(path, needs_secrets=False)

    outcomes = [outcome async for outcome in run_expected(file)]

    assert outcomes, "an example has conversations"
    different = [
        f"{path.name}:{found.line}: {outcome.name}: expected {found.expected}; heard {found.heard}"
        for outcome in outcomes
        for step in outcome.steps
        for found in step.differences
    ]
    assert different == []
    realtime = file.flow.voice.realtime is not None
    assert all((outcome.not_run is not None) == realtime for outcome in outcomes)


@pytest.mark.parametrize("path", WITHOUT_KEYS, ids=lambda path: path.stem)
def test_a_flow_that_is_published_at_start_needs_no_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "DEEPGRAM_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    open_flow(path)


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_an_example_has_a_page(path: Path) -> None:
    page = (ROOT / "docs" / "examples" / f"{path.stem}.md").read_text()

    assert str(path.relative_to(ROOT)) in page
