"""Tests are grouped and marked by the fixtures that they use: a renamed fixture must not go unnoticed."""

import re
from pathlib import Path

from tests.conftest import AFTER_AGENTS, GROUPS, ORDER

TESTS = Path(__file__).parents[1]
FIXTURE = re.compile(r"@pytest\.fixture.*?\ndef (\w+)|@pytest\.fixture.*?\nasync def (\w+)")


def fixtures() -> set[str]:
    sources = "\n".join(path.read_text() for path in TESTS.rglob("*.py"))
    return {name for names in FIXTURE.findall(sources) for name in names if name}


def test_every_grouping_fixture_exists() -> None:
    assert {fixture for fixture, _, _ in GROUPS} <= fixtures()


def test_a_fixture_that_is_gone_is_noticed() -> None:
    assert "no_such_fixture" not in fixtures()


def test_every_group_has_its_place_in_the_order() -> None:
    assert {group for _, group, _ in GROUPS} <= set(ORDER)


def test_every_folder_that_comes_after_the_agents_has_tests() -> None:
    assert [folder for folder in AFTER_AGENTS if not list((TESTS / folder).glob("test_*.py"))] == []
