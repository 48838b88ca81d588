"""Read the event log from Postgres: envelopes as published, plus sequence and position of their commit."""

from collections.abc import Mapping, Sequence

import asyncpg
from msgspec import UNSET

from antiphon.chassis.database import Database, translate_errors
from antiphon.contracts.envelope import Envelope, committed, decode

READ_SESSION = """
select sequence, position, envelope
from event_log
where session_id = $1 and sequence > $2 and tenant = $3
order by sequence
limit $4
"""

# One index range per partition, each limited, so that no partition can starve another.
READ_PARTITIONS = """
select found.sequence, found.position, found.envelope
from unnest($1::smallint[], $2::bigint[]) as place (partition, position)
cross join lateral (
    select partition, sequence, position, envelope
    from event_log
    where event_log.partition = place.partition and event_log.position > place.position
    order by event_log.position
    limit $3
) as found
order by found.partition, found.position
"""


async def read_session(
    database: Database, tenant: str, session_id: str, after: int, limit: int
) -> list[Envelope]:
    """Return a session's committed envelopes after a sequence, at most `limit`.

    Raises DatabaseUnavailable.
    """
    with translate_errors():
        rows = await database.pool.fetch(READ_SESSION, session_id, after, tenant, limit)
    return _envelopes(rows)


async def read_partitions(database: Database, after: Mapping[int, int], limit: int) -> list[Envelope]:
    """Return what was committed after a position in each partition, at most `limit` per partition, in order.

    Raises DatabaseUnavailable.
    """
    with translate_errors():
        rows = await database.pool.fetch(READ_PARTITIONS, [*after], [*after.values()], limit)
    return _envelopes(rows)


def sequence_of(envelope: Envelope) -> int:
    """Return the sequence of a committed envelope; 0 when it carries none."""
    return 0 if envelope.sequence is UNSET else envelope.sequence


def _envelopes(rows: Sequence[asyncpg.Record]) -> list[Envelope]:
    return [committed(decode(envelope), sequence, position) for sequence, position, envelope in rows]
