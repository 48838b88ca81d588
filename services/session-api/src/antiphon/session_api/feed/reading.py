"""Read a tenant's events from the log in steps, each bounded in events, bytes and what it looks through."""

from collections.abc import Sequence
from contextlib import aclosing

from antiphon.chassis.database import Database, translate_errors
from antiphon.chassis.log import Batch, Log
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of
from antiphon.session_api.feed.filters import EventFilter
from antiphon.session_api.feed.session_flows import SessionFlows

LEAST = 128  # events that a step looks at: filters leave most of them out
ENVELOPE_BYTES = 400  # of an event without its body, about

SEQUENCE = """
select coalesce(max(sequence), 0) from event_log where tenant = $1 and session_id = $2 and position <= $3
"""


class FeedReader:
    """The events of tenants as filters select them; one session is read by its own index."""

    def __init__(self, log: Log, database: Database, flows: SessionFlows) -> None:
        self.log = log
        self.flows = flows
        self._database = database

    async def step(
        self, tenant: str, wanted: EventFilter, cursor: Cursor, until: Cursor, *, limit: int, max_bytes: int
    ) -> Batch:
        """Return the next events up to a cursor, and where they were looked for.

        At most `limit`, and about `max_bytes`, but one at least if there are any. They are in the order of
        their positions, and not empty only because they were left out: the cursor tells whether the end
        is reached. Raises DatabaseUnavailable.
        """
        if wanted.session_id is not None:
            found = await self._of_session(tenant, wanted.session_id, cursor, until, limit)
        else:
            found = await self._of_partitions(tenant, wanted, cursor, until, limit)
        self.flows.learn(found.envelopes)
        passing = await self.flows.passing(tenant, wanted, in_order(found).envelopes)
        return _cut(passing, found.cursor, limit, max_bytes)

    async def _of_partitions(
        self, tenant: str, wanted: EventFilter, cursor: Cursor, until: Cursor, limit: int
    ) -> Batch:
        batch = max(limit, LEAST)
        found = self.log.read(cursor, until, tenant=tenant, types=wanted.types, batch=batch)
        async with aclosing(found) as batches:
            return await anext(batches, Batch([], cursor))

    async def _of_session(
        self, tenant: str, session_id: str, cursor: Cursor, until: Cursor, limit: int
    ) -> Batch:
        partition = partition_of(session_id)
        end = cursor.moved(until.positions.items())
        if cursor.after(partition) >= until.after(partition):
            return Batch([], end)
        with translate_errors():
            sequence = await self._database.pool.fetchval(
                SEQUENCE, tenant, session_id, cursor.after(partition)
            )
        page = await self.log.read_page(tenant, session_id, after=sequence, limit=max(limit, LEAST))
        within = [each for each in page.envelopes if position_of(each) <= until.after(partition)]
        if page.more and len(within) == len(page.envelopes):
            return Batch(within, cursor.advanced(within))
        return Batch(within, end)


def position_of(envelope: Envelope) -> int:
    """Return the position of a committed envelope; 0 when it carries none."""
    return envelope.position if isinstance(envelope.position, int) else 0


def in_order(batch: Batch) -> Batch:
    """Return a batch in the order of positions: that of each partition, and about that of time."""
    return batch._replace(envelopes=sorted(batch.envelopes, key=position_of))


def _cut(envelopes: Sequence[Envelope], reached: Cursor, limit: int, max_bytes: int) -> Batch:
    """Return the first events of a batch, and the cursor before the first one that is left out."""
    shown, size = 0, 0
    while shown < len(envelopes) and shown < limit and size < max_bytes:
        size += ENVELOPE_BYTES + len(bytes(envelopes[shown].data))
        shown += 1
    positions = dict(reached.positions)
    for envelope in reversed(envelopes[shown:]):  # the first of each partition comes last
        positions[partition_of(envelope.subject)] = position_of(envelope) - 1
    return Batch(list(envelopes[:shown]), Cursor(positions))
