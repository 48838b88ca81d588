"""Batches of an export, as the client hands them out, for tests that need no server."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from antiphon.client.exporting import ExportedBatch, _Control
from antiphon.contracts.envelope import Envelope, committed, decode, encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved

GOLDEN = sorted((Path(__file__).parents[3] / "contracts" / "examples").glob("*/*.json"))
BEGAN = datetime(2026, 1, 1, 23, 59, 0, tzinfo=UTC)


def golden() -> list[Envelope]:
    """Return every golden example as a committed envelope."""
    return [committed(decode(path.read_text()), n, n) for n, path in enumerate(GOLDEN, 1)]


def session_id(number: int) -> str:
    return f"ses_{number:026d}"


def envelopes(count: int, *, sessions: int = 5) -> Iterator[Envelope]:
    """Yield committed events of a few sessions, over two days."""
    for number in range(1, count + 1):
        event: Event = TurnSaved(
            turn=number, agent_id="host", user_text=f"words {number}", metrics={"e2e_latency": number / 10}
        )
        if number % 3 == 0:
            event = ToolCompleted(call_id=f"c{number}", name="book", status="done", output="{}")
        sealed = seal(
            event,
            id=f"e{number}",
            session_id=session_id(number % sessions),
            tenant="default",
            producer="test",
            producerseq=number,
            time=BEGAN + timedelta(seconds=number),
        )
        yield committed(sealed, number, number)


def batch(
    events: Sequence[Envelope], number: int, *, complete: bool = False, tenant: str = "default"
) -> ExportedBatch:
    """Return a batch; its cursor is a number."""
    control = _Control(cursor=str(number), until="end", tenant=tenant, progress=0.5, complete=complete)
    return ExportedBatch([encode(event) for event in events], control)


def batches(events: Sequence[Envelope], size: int, *, after: int = 0) -> Iterator[ExportedBatch]:
    """Yield the batches after a cursor: the number of events before it."""
    for start in range(after, len(events), size):
        end = min(start + size, len(events))
        yield batch(events[start:end], end, complete=end == len(events))
    if after >= len(events):
        yield batch([], after, complete=True)


def bodies(events: Sequence[Envelope]) -> list[dict[str, object]]:
    """Return the bodies of events as JSON."""
    return [json.loads(bytes(event.data)) for event in events]


def replaced(envelope: Envelope, **changes: object) -> Envelope:
    return msgspec.structs.replace(envelope, **changes)
