"""A writer of the event log in place of persistence: it commits, and announces on demand."""

from collections.abc import Sequence

import msgspec
import pytest
from tests.fixtures.clock import FixedClock

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, encode, seal
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import committed_subject, partition_of

INSERT = """
insert into event_log
    (session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope)
values ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9)
"""


class Writer:
    """A writer that commits and announces events."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._position = 0
        self.sessions: dict[str, int] = {}  # their last sequence

    async def commit(
        self, session_id: str, count: int = 1, tenant: str = "default", size: int = 0, *, turns: bool = False
    ) -> list[Envelope]:
        """Commit events, of at least `size` bytes, without announcing them: `turns` or commands."""
        envelopes = self.envelopes(session_id, count, tenant, size, turns=turns)
        await self._database.pool.executemany(INSERT, rows(envelopes))
        return envelopes

    def envelopes(
        self, session_id: str, count: int = 1, tenant: str = "default", size: int = 0, *, turns: bool = False
    ) -> list[Envelope]:
        """Return the next events of a session, to be committed with INSERT and `rows`."""
        return [self._next(session_id, tenant, size, turns=turns) for _ in range(count)]

    async def announce(self, envelopes: Sequence[Envelope]) -> None:
        """Announce committed events of one session."""
        first = envelopes[0]
        payload = msgspec.json.encode(envelopes)
        await self._bus.announce(committed_subject(first.tenant, first.subject), payload)

    async def commit_and_announce(self, session_id: str, count: int = 1) -> list[Envelope]:
        """Commit and announce."""
        envelopes = await self.commit(session_id, count)
        await self.announce(envelopes)
        return envelopes

    def _next(self, session_id: str, tenant: str, size: int, *, turns: bool) -> Envelope:
        sequence = self.sessions.get(session_id, 0) + 1
        self.sessions[session_id] = sequence
        self._position += 1
        text = "test".ljust(size, "x")
        envelope = seal(
            TurnSaved(turn=sequence, agent_id="test", user_text=text)
            if turns
            else CommandRequested(command_id=str(sequence), verb="end", actor=text),
            id=f"{session_id}:test:{sequence}",
            session_id=session_id,
            tenant=tenant,
            producer="test",
            producerseq=sequence,
            time=FixedClock()(),
        )
        return committed(envelope, sequence, self._position)


def rows(envelopes: Sequence[Envelope]) -> list[tuple[object, ...]]:
    """Return the arguments of INSERT."""
    return [_row(envelope) for envelope in envelopes]


def _row(envelope: Envelope) -> tuple[object, ...]:
    published = msgspec.structs.replace(envelope, sequence=msgspec.UNSET, position=msgspec.UNSET)
    return (
        envelope.subject,
        envelope.sequence,
        partition_of(envelope.subject),
        envelope.position,
        envelope.tenant,
        envelope.id,
        envelope.type,
        envelope.time,
        encode(published).decode(),
    )


@pytest.fixture
def writer(database: Database, bus: Bus) -> Writer:
    """The writer of the log."""
    return Writer(database, bus)
