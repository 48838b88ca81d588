"""The programs of the pages, in a shell that is set up as the pages say, against a running stack."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import pytest

from antiphon.cli.embedded import EmbeddedStack

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(?P<kind>python|sh|console)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 120.0
# the page; what its Python prints; whether its last loop has no end
PAGES = (
    ("analyse-events-with-duckdb", r"^\[.*\('host', [1-9]\d*\).*\]\n\d+ tool calls failed$", False),
    ("subscribe-to-all-events", r"^ses_\w{26} session\.closed ", True),
    ("see-analytics", r"^\d{4}-\d\d-\d\d booking [1-9]\d* ", False),
    ("look-at-a-session-as-it-was", r"^12 \w+ \w+ \d+$(.|\n)*^\d \w+$", False),
    ("subscribe-to-a-session", r"^1 session\.requested$(.|\n)* session\.closed$", False),
)


class Shell:
    """A shell in a folder with the programs of the environment under `.venv`, as in a checkout."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv").symlink_to(sys.prefix)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        self.environment = {**ours, **stack.settings.environment(), "PYTHONUNBUFFERED": "1"}
        if shutil.which("curl") is None:  # a user's machine needs none
            program = folder / "bin" / "curl"
            program.parent.mkdir()
            program.write_text(f"#!{sys.executable}\n{(ROOT / 'tests' / 'fixtures' / 'curl.py').read_text()}")
            program.chmod(0o755)
            self.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"

    async def run(self, script: str, until: str = "") -> str:
        """Run a script; return what it prints, to its end or until a line of it matches."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", script, cwd=self.folder, env=self.environment, stdout=PIPE, start_new_session=True
        )
        printed = ""
        assert process.stdout is not None
        try:
            async with asyncio.timeout(SECONDS):
                while line := (await process.stdout.readline()).decode():
                    printed += line
                    if until and re.search(until, printed, re.MULTILINE):
                        return printed
                assert await process.wait() == 0, printed
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
        return printed


@pytest.fixture
def shell(stack: EmbeddedStack, tmp_path: Path) -> Shell:
    """A shell for the commands of the pages."""
    return Shell(stack, tmp_path)


@pytest.fixture(scope="module")
def call(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A call that was recorded to its end, for all pages."""
    shell = Shell(stack, tmp_path_factory.mktemp("call"))
    return asyncio.run(shell.run('.venv/bin/antiphon call --say "thank you good bye"'))


def setting_up(page: str) -> str:
    """Return the line of a page that sets up the shell; it comes before all programs."""
    first = next(BLOCK.finditer(page))
    assert first["kind"] == "sh"
    return first["text"].splitlines()[0]


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize(("name", "printed", "endless"), PAGES, ids=[page[0] for page in PAGES])
async def test_the_python_of_a_page_runs(name: str, printed: str, endless: bool, shell: Shell) -> None:
    page = (HOW_TO / f"{name}.md").read_text()
    programs = [block["text"] for block in BLOCK.finditer(page) if block["kind"] == "python"]
    (shell.folder / "program.py").write_text("\n".join(programs))
    exports = [
        line.removeprefix("$ ")
        for block in BLOCK.finditer(page)
        for line in block["text"].splitlines()
        if "export --format parquet --output events" in line
    ]
    script = "\n".join([setting_up(page), *exports, "exec .venv/bin/python program.py"])

    # the last loop of the endless one waits for the next event, which may be of any session
    output = await shell.run(script, until=printed if endless else "")

    assert programs
    assert re.search(printed, output, re.MULTILINE), output


def kinds(timeline: str) -> set[tuple[str, str]]:
    """Return the lane and the first word of each thing in a timeline."""
    found = re.findall(r"^ +\+[\d.]+ s +(?:[\d.]+ s|goes on)? +(\w+) +(\w+)", timeline, re.MULTILINE)
    return {(lane, "" if lane in ("tool", "participant") else word) for lane, word in found}


async def test_the_timeline_of_the_page_has_what_a_call_has(call: str, shell: Shell) -> None:
    page = (HOW_TO / "see-analytics.md").read_text()
    session = re.findall(r"antiphon show (ses_\w{26})", call)[-1]

    output = await shell.run(f"{setting_up(page)}\n.venv/bin/antiphon timeline {session}")

    assert {("agent", "Thinking"), ("agent", "Ready"), ("caller", "Speaking")} <= kinds(output)
    assert kinds(output) <= kinds(page)


async def test_the_stream_of_the_readme_begins_as_it_shows(call: str, shell: Shell) -> None:
    block = next(block for block in BLOCK.finditer(README) if "curl -N" in block["text"])
    commands = [line.removeprefix("$ ") for line in block["text"].splitlines() if line.startswith("$ ")]
    shown = block["text"].partition('/events"\n')[2].splitlines()
    session = re.findall(r"antiphon show (ses_\w{26})", call)[-1]

    output = await shell.run(f"{commands[0]}\n{commands[-1].replace('ses_…', session)}")

    assert commands[0].startswith('eval "$(.venv/bin/antiphon env)"')
    assert output.splitlines()[:4] == shown[:4]


@pytest.mark.usefixtures("call")
async def test_the_sql_of_see_analytics_runs(shell: Shell) -> None:
    page = (HOW_TO / "see-analytics.md").read_text()
    statements = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0].splitlines()
    for statement in statements:
        assert await shell.run(f'{setting_up(page)}\n.venv/bin/antiphon psql -c "{statement}"')
    assert len(statements) == 3


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("name", ["several-agents", "give-an-agent-tools"])
async def test_the_sql_of_a_page_on_flows_runs(name: str, shell: Shell) -> None:
    page = (HOW_TO / f"{name}.md").read_text()
    (statement,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert "row" in await shell.run(f'.venv/bin/antiphon psql -c "{statement}"')
