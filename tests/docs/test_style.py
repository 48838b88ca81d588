"""Each rule of the style check finds its fault, and leaves correct pages alone."""

import pytest
from tools.docs import style
from tools.docs.words import BRITISH, FILLERS, TERMS

TERMS_OF_A_PAGE = ["Dead letter", "Event log", "Hand-off", "Fold"]


def found(page: str) -> list[str]:
    return list(style.faults(page, TERMS_OF_A_PAGE))


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("One row in PostgreSQL.", "1: “PostgreSQL”: write Postgres"),
        ("It runs\non livekit.", "2: “livekit”: write LiveKit"),
        ("a dead-letter, set aside", "1: “dead-letter”: write dead letter"),
        ("all dead-letters", "1: “dead-letters”: write dead letter"),
        ("the eventlog", "1: “eventlog”: write event log"),
        ("Handoffs between agents", "1: “Handoffs”: write hand-off"),
        ("a DLQ for it", "1: “DLQ”: write dead letters"),
        ("its behavior", "1: “behavior”: write behaviour"),
        ("It is recognized.", "1: “recognized”: write recognise"),
        ("It is simply read.", "1: “simply”: write the sentence without it"),
        ("It is in the\nthe log.", "1: “the the”: a word is there twice"),
        ("# How To Run It", "1: heading “How To Run It”: write “to”, or add it to NAMES"),
        ("Read it [here](log.md).", "1: link “here”: say where it leads"),
    ],
)
def test_a_fault_is_found(page: str, fault: str) -> None:
    assert fault in found(page)


@pytest.mark.parametrize(
    "page",
    [
        "The dead-letter table of Postgres, its event-log rows, and a hand-off.",
        "`postgres` and `livekit.room_started`; [the log](../postgres/livekit.md) <!-- nats -->",
        "```sh\nnats stream ls\n```\n\n~~~\nthe the\n~~~",
        "# 3. Run on Kubernetes: How it works",
        "## livekit.room_started",
        "## `nats`",
        "The licence, an Authorization header, the home directory: that that is had had.",
        "The livekit-server and nats-py of Debian's packages.",
    ],
)
def test_a_correct_page_has_no_fault(page: str) -> None:
    assert found(page) == []


def test_terms_are_those_of_the_glossary() -> None:
    terms = style.terms_of(style.GLOSSARY.read_text())

    assert {"Dead letter", "Event log", "Hand-off", "Journal"} <= set(terms)


@pytest.mark.parametrize(("pattern", "instead"), [*TERMS, *BRITISH, *FILLERS])
def test_what_to_write_instead_is_no_fault(pattern: str, instead: str) -> None:
    assert [fault for fault in found(instead) if f"write {instead}" in fault] == []


def test_the_pages_are_all_that_people_read() -> None:
    names = {str(path.relative_to(style.ROOT)) for path in style.pages()}

    assert {"README.md", "docs/quickstart.md", "docs/adr/0002-envelope.md", "recorder/README.md"} <= names
