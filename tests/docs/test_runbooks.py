"""Each alert has its page, and each page its alert; what a page says to type exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.deploy.alert_rules import alerts, recorded
from tests.deploy.promql import unknown

from antiphon.cli.main import app as antiphon
from antiphon.contracts.session import Status
from antiphon.persistence.cli import app as persistence

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
PAGES = sorted(FOLDER.glob("*.md"))
HEADINGS = ["What it means", "How to look", "What to do", "When it is over"]
CODE = re.compile(r"`([^`\n]+)`")
QUERY = re.compile(r"\b(antiphon[:_]|job:|http_server_|messaging_|db_client_|process_)\w|\bup\b *[{)=]")
PROGRAMS: dict[str, typer.Typer] = {"python -m antiphon.persistence": persistence, "antiphon": antiphon}
OTHERS = ("kubectl", "helm", "docker", "nats", "select")  # their own documentation says what they have


def wrong(text: str) -> Iterator[str]:
    """Yield what a page tells to type and that does not exist."""
    for code in CODE.findall(text):
        if code.startswith(OTHERS):
            continue
        program = next((name for name in PROGRAMS if code == name or code.startswith(f"{name} ")), None)
        if program:
            yield from not_accepted(PROGRAMS[program], code.removeprefix(program).split())
        elif QUERY.search(code):
            try:
                yield from unknown(code.replace("…", "up"), recorded())
            except ValueError as error:
                yield f"{code}: {error}"


def not_accepted(program: typer.Typer, words: list[str]) -> Iterator[str]:
    """Yield what a command line has and its program has not: a command, an option, or a status."""
    command: Any = typer.main.get_command(program)
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            yield f"{command.name} {word}"
            return
        command = command.commands[word]
    if "--status" in words and (status := words[words.index("--status") + 1]) not in list(Status):
        yield f"{command.name} --status {status}"
    options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    passed_on = command.context_settings.get("ignore_unknown_options")
    yield from (
        f"{command.name} {word}"
        for word in words
        if word.startswith("-") and word not in options and not passed_on
    )


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page.stem for page in PAGES} == {"index", *alerts()}


def test_the_index_lists_every_alert_with_its_severity() -> None:
    rows = re.findall(r"\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", (FOLDER / "index.md").read_text())

    assert sorted((name, file, severity) for name, file, severity in rows) == sorted(
        (name, name, rule["labels"]["severity"]) for name, rule in alerts().items()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_exists(page: Path) -> None:
    text = page.read_text()

    assert list(wrong(text)) == []
    if page.stem != "index":
        assert text.startswith(f"# {page.stem}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`antiphon stat`", ["antiphon stat"]),
        ("`python -m antiphon.persistence streams gap`", ["streams gap"]),
        ("`antiphon sessions --state open`", ["sessions --state"]),
        ("`max(antiphon_gone)`", ["antiphon_gone"]),
        ("`sum by (tenant) (up)`", ["by (tenant)"]),
        ("`antiphon sessions --status requested`", ["sessions --status requested"]),
        ("`antiphon sessions --status pending`, `antiphon psql -c x`", []),
    ],
)
def test_what_does_not_exist_is_found(text: str, found: list[str]) -> None:
    assert [each.replace("root ", "antiphon ") for each in wrong(text)] == found
