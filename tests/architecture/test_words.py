"""Names and phrases that were replaced by common terms are not used again."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "contracts/src",
    "chassis",
    "recorder",
    "services",
    "client",
    "cli",
    "deploy",
    "examples",
    "tests",
    "docs",
)
SUFFIXES = {".py", ".md", ".sql", ".toml"}
# decisions and releases are not rewritten
HISTORY = ("docs/adr/", "CHANGELOG.md")

# Pattern and replacement. Phrases also match across a line break.
REPLACED: tuple[tuple[str, str], ...] = (
    (r"\bplainly\(", "translate_errors("),
    (r"(?i)\bpatience", "backoff, timeout, deadline"),
    (r"(?i)doorbell", "Notified, notification"),
    (r"\bTurnBook\b|\bturn_book\b", "TurnTracker"),
    (r"\bNotebook\b|\bclass (Ears|Facts|Board)\b", "what it does, in common words"),
    (r"\b_doubt\b|\bgreet_everybody\b|\bbelongs_to\b", "what it does, in common words"),
    (r"\bUnfit\b|(?i:\bjudge(s|d|ment)?\b|\bjudging\b)", "validate, DeadLetter"),
    (r"\bclass Line\b|\bLineOptions\b", "PartitionIngest"),
    (r"\bclass Hand\b|\b_fly\b", "PendingCommit, _flush"),
    (r"\bclass Condition\b", "ReadinessCheck"),
    (r"\bclass (Heard|Listening)\b|\bLOOK\b|\bGAP\b", "Announcement, Subscription, MISSED"),
    (r"\bclass (Move|Memory)\b", "CheckpointAdvance, cache"),
    (r"\bclass Stopped\b|\bInterruptible\b", "ShuttingDown"),
    (r"closed_unheard|room_left_behind", "nats.flush_failed, session.room_cleanup_failed"),
    (r"(?i)\bfor ever\b", "forever, permanently, without end"),
    (r"(?i)\bwhoever\b|\bwhence\b|\bsomebody\b", "a name for who or what it is"),
    (r"(?i)\banew\b|\b(is|are) told\b|\bhears? of\b", "again, gets, detects"),
    (r"(?i)\bgood manners\b", "leases are advisory, the epoch fences"),
    (r"(?i)\bkept in mind\b", "cached"),
    (r"(?i)\b(stands?|falls?) (or|and) (stands?|falls?)\b", "commit atomically"),
    (r"(?i)\bwhat comes of it\b|\blast words\b|\bby its own hand\b", "the result, the end of the log"),
)
FILES = [
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES),
    *sorted(ROOT.glob("*.md")),
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
]


def checked(path: Path) -> bool:
    name = str(path.relative_to(ROOT))
    return path != Path(__file__) and not name.startswith(HISTORY) and "/." not in f"/{name}"


def replaced_words(text: str) -> Iterator[str]:
    """Yield each use of a replaced word: its line, the word, the replacement."""
    for pattern, instead in REPLACED:
        for match in re.finditer(pattern.replace(" ", r"\s+(?:#\s*)?"), text):
            line = text.count("\n", 0, match.start())
            yield f"{line}: “{' '.join(match.group().split())}”: use {instead}"


def test_no_replaced_word_is_used() -> None:
    files = [path for path in FILES if checked(path)]
    found = [
        f"{path.relative_to(ROOT)}:{use}"
        for path in files
        # the name of the file counts as its line 0
        for use in replaced_words(f"{path.name}\n{path.read_text()}")
    ]

    assert len(files) > len(FOLDERS)
    assert "\n".join(found) == ""


@pytest.mark.parametrize(
    "text",
    [
        "plainly(error)",
        "patience_seconds=3",
        "A doorbell rings.",
        "from x import TurnBook",
        "class Hand:",
        "an event that is judged",
        "kept for\n    # ever",
        "and whoever reads it",
        "Rows and checkpoint stand or fall together",
    ],
)
def test_a_replaced_word_is_detected(text: str) -> None:
    assert len(list(replaced_words(text))) == 1


@pytest.mark.parametrize("text", ["a forever loop", "backoff", "class Liner", "LOOK_SECONDS", "an outline"])
def test_other_words_pass(text: str) -> None:
    assert list(replaced_words(text)) == []
