import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli.timeline import SUMMARIES, Timeline
from antiphon.client import SessionEvent
from antiphon.contracts.registry import EVENTS

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"


ENVELOPE = {
    "specversion": "1.0",
    "id": "an-id",
    "source": "/test",
    "subject": "ses_01m7yq1we0eqq9xvayxnfetqqd",
    "dataschema": "https://antiphon.dev/schemas/any/1",
    "tenant": "default",
    "producer": "test",
    "producerseq": 0,
}


def committed(event: dict[str, Any]) -> SessionEvent:
    """Return an event as the client gives it, of some of its members."""
    return SessionEvent.parse(json.dumps({**ENVELOPE, **event}).encode())


def _examples() -> Iterator[Any]:
    for path in sorted(EXAMPLES.glob("*/*.json")):
        yield pytest.param(json.loads(path.read_text()), id=path.parent.name)


@pytest.mark.parametrize("example", list(_examples()))
def test_every_event_type_has_a_line(example: dict[str, Any]) -> None:
    line = Timeline().line(committed({**example, "sequence": 7})).plain

    assert f"   7  {example['type']}" in line
    assert "None" not in line


def test_time_starts_at_the_first_event() -> None:
    timeline = Timeline()
    first = {"type": "session.closed", "sequence": 1, "time": "2026-01-01T00:00:00.000000Z"}
    closed = {"reason": "agent_ended", "turns": 4, "duration_seconds": 12.34}

    lines = [
        timeline.line(committed({**first, "data": closed})).plain,
        timeline.line(committed({**first, "data": closed, "time": "2026-01-01T00:00:01.250000Z"})).plain,
    ]

    assert lines[0].lstrip().startswith("+0.000 s")
    assert lines[1].lstrip().startswith("+1.250 s")
    assert lines[0].endswith("agent_ended, 4 turns, 12.3 s")


TURN = {"turn": 2, "agent_id": "host", "user_text": "hello", "assistant_text": "Good"}


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"recovered": True, "interrupted": True}, "(recovered: the agent was killed while it spoke)"),
        ({"interrupted": True}, "(interrupted)"),
        ({"state": "open"}, "(open)"),
        ({"state": "unfinished"}, "(unfinished: the session ended before the turn was saved)"),
        ({"state": "saved", "recovered": False}, "“Good”"),
    ],
)
def test_a_turn_that_did_not_end_as_usual_is_marked(changes: dict[str, Any], mark: str) -> None:
    event = {"type": "turn.saved", "sequence": 1, "time": "2026-01-01T00:00:00Z", "data": {**TURN, **changes}}

    assert Timeline().line(committed(event)).plain.endswith(mark)


@pytest.mark.parametrize("kind", sorted(SUMMARIES))
@pytest.mark.parametrize("data", [{}, None, [], "text", {"turn": None, "ready_ms": "soon", "models": 3}])
def test_a_body_that_cannot_be_read_has_a_line(kind: str, data: Any) -> None:
    event = {"type": kind, "sequence": 1, "time": "2026-01-01T00:00:00Z", "data": data}

    line = Timeline().line(committed(event))

    assert kind in line.plain


def test_summaries_name_known_event_types() -> None:
    assert set(SUMMARIES) <= {event.TYPE for event in EVENTS}
