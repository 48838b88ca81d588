"""The examples of the how-to run, one after the other, against a real session-api."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.session_api.conftest import Running
from tests.session_api.fake_livekit import FakeLiveKit
from tests.session_api.fake_persistence import FakePersistence

from antiphon.cli.commands import keys

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "use-the-python-client.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 120.0


@pytest.fixture
async def committing(livekit: FakeLiveKit, persistence: FakePersistence) -> AsyncIterator[None]:
    """Commit what is published, as persistence does."""

    async def commit() -> None:
        while True:
            for room in tuple(livekit.created):
                await persistence.catch_up(room.name)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(commit())
    yield
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("committing", "soon_settled")
async def test_every_example_runs(
    running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_API_URL", running.url)
    monkeypatch.setenv("ANTIPHON_API_KEY", "writer")
    examples = EXAMPLE.findall(PAGE.read_text())
    names: dict[str, Any] = {"__name__": "example"}

    for example in examples:
        line = PAGE.read_text().partition(example)[0].count("\n")
        code = compile("\n" * line + example, str(PAGE), "exec")
        async with asyncio.timeout(SECONDS):
            await asyncio.to_thread(exec, code, names)

    assert len(examples) == 7
    printed = capsys.readouterr().out
    assert "closed: cancelled" in printed
    assert "unknown-flow - " in printed
    assert "['booking']" in printed
    names["client"].close()


@pytest.mark.usefixtures("committing", "soon_settled")
async def test_the_example_of_the_readme_runs(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = [
        code for code in EXAMPLE.findall((ROOT / "README.md").read_text()) if "antiphon.client" in code
    ]
    code = example.replace("http://127.0.0.1:8000", running.url).replace("your-api-key", "writer")

    async with asyncio.timeout(SECONDS):
        await asyncio.to_thread(exec, code, {"__name__": "example"})

    assert re.search(r"^ses_\w{26} dispatched None", capsys.readouterr().out, re.MULTILINE)


def test_the_command_of_the_readme_is_one() -> None:
    [line] = re.findall(r"^\$ \.venv/bin/antiphon keys (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    program = typer.main.get_command(keys.app)

    name, *arguments = line.split()
    context = program.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]

    assert context.params["scope"] == ["sessions:read", "sessions:write"]
