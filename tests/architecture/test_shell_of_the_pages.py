"""The commands of the pages can be copied: their programs are found, and their variables are set."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "quickstart.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
)
BLOCK = re.compile(r"^ *```(sh|bash|console|python)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SETTING_UP = 'eval "$(.venv/bin/antiphon env)"'
BARE = re.compile(r"^(antiphon |python |(\w+=\S+ )+python |psql |duckdb\b)")
BORROWED = re.compile(r"\$\{?(API|KEY|ADMIN_KEY|DSN)\b")
CLIENT = "Antiphon()"  # from the environment


def lines_of(page: str) -> Iterator[tuple[str, str]]:
    """Yield the kind of block and the text of each command of a page."""
    for kind, text in BLOCK.findall(page):
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            if kind != "console" or command != line:
                yield kind, command


def mistakes(page: str) -> Iterator[str]:
    """Yield the lines that do not work in a new shell in the checkout, after `make up`."""
    exported: set[str] = set()
    for kind, line in lines_of(page):
        if line.startswith(SETTING_UP):
            exported |= {"ANTIPHON_API_URL", "ANTIPHON_API_KEY", "ANTIPHON_POSTGRES_DSN", "ANTIPHON_NATS_URL"}
        exported |= set(re.findall(r"^(?:export )?([A-Z_]+)=", line))
        used = set(re.findall(r"\$\{?(ANTIPHON_\w+|EVENTS_URL)", line))
        if kind == "python":
            wrong = CLIENT in line and "ANTIPHON_API_URL" not in exported
        else:
            if "antiphon.persistence" in line and "nats-users" not in line:  # it connects to nothing
                used.add("ANTIPHON_POSTGRES_DSN")
            wrong = bool(BARE.search(line) or BORROWED.search(line)) or not used <= exported
        if wrong:
            yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_work_in_a_new_shell(page: Path) -> None:
    assert list(mistakes(page.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "antiphon events",
        "python -m antiphon.persistence verify",
        "A=1 python -m antiphon.persistence run",
        ".venv/bin/python -m antiphon.persistence verify",
        'curl "$API/v1/events"',
        'curl "$ANTIPHON_API_URL/v1/events"',
    ],
)
def test_a_mistake_is_found(line: str) -> None:
    assert list(mistakes(f"```sh\n{line}\n```\n")) == [line]


def test_what_can_be_copied_is_no_mistake() -> None:
    shell = f'```sh\n{SETTING_UP}   # all\ncurl "$ANTIPHON_API_URL/v1"\n```\n'
    page = f"{shell}```python\nclient = Antiphon()\n```\n"
    assert list(mistakes(page)) == []
    assert list(mistakes("```console\nantiphon 1.0\n$ .venv/bin/antiphon events\n```\n")) == []


def test_files_that_the_pages_write_are_ignored() -> None:
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:--output|persistence backup) ([\w.]+)", page.read_text())
    }
    ignored = set((ROOT / ".gitignore").read_text().splitlines())

    assert {"events", "log", "calls.ndjson", "backups"} <= named
    for name in named:
        assert {f"/{name}/", f"/{name}*"} & ignored, name
    assert "/analytics.sqlite*" in ignored  # of the example
