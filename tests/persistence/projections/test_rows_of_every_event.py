"""A view whose functions give other rows for the same events has another version: it is then built again."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope, committed, decode
from antiphon.contracts.ids import agent_event_id, named_session_id
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.rows import Cache, Rows
from antiphon.persistence.projections import PROJECTIONS

EXAMPLES = Path(__file__).parents[3] / "contracts" / "examples"
PINNED = {
    "sessions": (2, "bece88a748f0967e"),
    "turns": (1, "6a89386fd42aeb3a"),
    "participants": (2, "f556317dcad7ffb5"),
    "tools": (1, "a0cc2af72b330afa"),
    "usage": (1, "87551ff2544c254e"),
    "daily": (1, "7465c3ce714b3da6"),
    "timeline": (1, "5057e874fd0f0206"),
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
    cache, written = Cache(complete=True), []
    for envelope in log():
        rows = Rows(cache.rows)
        projection.fold(projection.opened([envelope]), rows)
        written.append(rows.written())
        rows.keep()
    digest = hashlib.blake2b(msgspec.json.encode(written), digest_size=8).hexdigest()

    assert any(written)
    assert (projection.version, digest) == PINNED.get(projection.name), "pin the new digest"
