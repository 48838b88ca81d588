"""A view whose functions give other rows for the same events has another version: it is then built again."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope, committed, decode
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projections import PROJECTIONS

EXAMPLES = Path(__file__).parents[3] / "contracts" / "examples"
PINNED = {
    "sessions": (3, "ba536e58dd60b82a"),
    "turns": (1, "5f9957f30f6c14da"),
    "participants": (2, "3c0225104c5d9bb5"),
    "tools": (2, "0c11bf63cd97e021"),
    "usage": (2, "4da0a5f502f7f8f7"),
    "daily": (2, "18d3f9eef11facd8"),
    "timeline": (2, "ec1577e6b5fb9e49"),
}


def examples() -> list[Envelope]:
    return [decode(path.read_bytes()) for path in sorted(EXAMPLES.glob("*/*.json"))]


def log() -> list[Envelope]:
    """Return all examples as the events of one session, twice, and in the other order as those of another."""
    events: list[Envelope] = []
    for name, body in (("forward", examples() * 2), ("backward", examples()[::-1])):
        session_id = named_session_id("default", name)
        for number, envelope in enumerate(body, start=1):
            job = f"AJ_{number % 2}"
            event_id = agent_event_id(session_id, job, number)
            moved = replace(envelope, subject=session_id, tenant="default", id=event_id)
            events.append(committed(moved, number, len(events) + 1))
    return events


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_the_rows_of_a_view_have_its_version(projection: Projection) -> None:
    """Raise the version of a view if it shows something else for events that it knew, then pin the digest."""
    cache, written = Cache(empty=True), []
    for envelope in log():
        rows = Rows(cache)
        projection.fold(projection.opened([envelope]), rows)
        written.append(rows.written())
        rows.keep()
    digest = hashlib.blake2b(msgspec.json.encode(written), digest_size=8).hexdigest()

    assert any(written)
    assert (projection.version, digest) == PINNED.get(projection.name), "pin the new digest"
