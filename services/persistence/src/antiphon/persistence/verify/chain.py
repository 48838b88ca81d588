"""The hash chains of the event log, computed apart from Postgres, as its functions define them.

    digest   = sha256(all columns of the row)
    hash     = sha256(hash of the session's event before, or nothing for its first + digest)
    chain    = sha256(chain of the partition's event before, or its start + hash)

The SQL functions are in migrations/versions/0008_chain.sql; a property test compares the two.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct

NO_HASH = b""  # before the first event of a session
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of Postgres
MICROSECOND = timedelta(microseconds=1)
INFINITY = 2**63 - 1  # of Postgres, which asyncpg makes of the first and the last instant of datetime
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_NUMBERS = Struct(">iqhhqq")
_SEPARATOR = b"\0"  # which no text of Postgres contains


def event_digest(
    sequence: int,
    position: int,
    partition: int,
    version: int,
    occurred_at: datetime,
    committed_at: datetime,
    *texts: str,
) -> bytes:
    """Return the digest of an event; `texts` are session, tenant, event id, type and envelope."""
    numbers = _NUMBERS.pack(
        sequence, position, partition, version, microseconds(occurred_at), microseconds(committed_at)
    )
    return sha256(numbers + _SEPARATOR.join([text.encode() for text in texts])).digest()


def link(before: bytes, entry: bytes) -> bytes:
    """Return the value of a chain after an entry."""
    return sha256(before + entry).digest()


def start_of(partition: int, chained_after: int) -> bytes:
    """Return what the chain of a partition starts from, after the last position without a hash."""
    return sha256(f"antiphon chain of partition {partition} after {chained_after}".encode()).digest()


def aware(time: datetime) -> datetime:
    """Return a time with its zone, which asyncpg leaves out of the first and the last instant."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def microseconds(time: datetime) -> int:
    """Return a time as Postgres stores it."""
    time = aware(time)
    if time == LAST:
        return INFINITY
    return -INFINITY - 1 if time == FIRST else (time - EPOCH) // MICROSECOND
