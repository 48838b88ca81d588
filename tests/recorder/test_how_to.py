"""The documented snippets run: their imports, and the definitions of the agent."""

import re
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import AgentServer

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "docs" / "how-to" / "record-your-own-agent.md", ROOT / "recorder" / "README.md"]


def snippets(page: Path) -> list[str]:
    return PYTHON.findall(page.read_text())


def run(snippet: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "documented"}
    exec(compile(snippet, "documented", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_agent_can_be_copied(page: Path) -> None:
    first, *others = snippets(page)
    assert "from antiphon.recorder import record" in first
    namespace = run(first)
    assert isinstance(namespace["server"], AgentServer)
    assert callable(namespace["entry"])
    for other in others:
        run(other)


def test_install_lines_name_packages_of_the_checkout() -> None:
    (line,) = [line for line in PAGES[0].read_text().splitlines() if line.startswith("pip install")]
    folders = line.removeprefix("pip install ").split()
    assert all((ROOT / folder / "pyproject.toml").exists() for folder in folders)
