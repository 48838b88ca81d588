"""Messages as they arrive, and partitions that a test commits to directly."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest

from antiphon.chassis.bus import Bus, Incoming, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.persistence.ingest.group_writer import GroupWriter
from antiphon.persistence.ingest.partition import IngestOptions, PartitionIngest
from antiphon.persistence.ingest.validate import Validated, validate
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession

NO_BUS = cast(Bus, None)  # claim, commit and settle do not use it

NewPartition = Callable[..., PartitionIngest]
SessionsOf = Callable[..., list["SampleSession"]]
Batch = Callable[..., list[Validated]]


@pytest.fixture
def new_partition() -> NewPartition:
    """Make the ingest loop of a partition, for its claims and commits only."""

    def make(number: int, database: Database, writer: GroupWriter | None = None) -> PartitionIngest:
        writer = writer or GroupWriter(database)
        return PartitionIngest(number, NO_BUS, database, writer, ReadinessCheck(), IngestOptions())

    return make


@pytest.fixture
def sessions_of(new_session: "NewSession") -> SessionsOf:
    """Make three sessions of one partition."""

    def find(partition: int) -> list["SampleSession"]:
        found: list[SampleSession] = []
        for number in range(10_000):
            session = new_session(f"session {number}")
            if session.partition == partition:
                found.append(session)
            if len(found) == 3:
                break
        return found

    return find


@pytest.fixture
def batch() -> Batch:
    """Validate envelopes as messages that arrive at consecutive positions."""

    def arrive(envelopes: Sequence[Envelope], partition: int, start: int) -> list[Validated]:
        outs = [outgoing(envelope) for envelope in envelopes]
        now = datetime.now(UTC)
        return [
            validate(Incoming(out.subject, out.payload, start + n, n + 1, None, now), partition)
            for n, out in enumerate(outs)
        ]

    return arrive
