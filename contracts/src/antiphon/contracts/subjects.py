"""NATS subjects of events and announcements: `sessions.<partition>.<tenant>.<session>.<family>`."""

from dataclasses import dataclass
from zlib import crc32

PARTITIONS = 16  # fixed when the stream is created, and stored in its metadata
ALL_EVENTS = "sessions.>"
PROBE = "sessions.probe"  # stored to learn whether events can be; no partition has it, and nobody reads it


@dataclass(frozen=True, slots=True)
class EventSubject:
    """The tokens of an event's subject."""

    partition: int
    tenant: str
    session_id: str
    family: str


def partition_of(session_id: str) -> int:
    """Return the partition of a session: CRC-32 of its id, modulo the number of partitions."""
    return crc32(session_id.encode()) % PARTITIONS


def event_subject(tenant: str, session_id: str, family: str) -> str:
    """Return the subject that an event is published on."""
    return f"sessions.{partition_of(session_id)}.{tenant}.{session_id}.{family}"


def parse_event_subject(subject: str) -> EventSubject:
    """Parse the subject of an event.

    Raises ValueError.
    """
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[0] != "sessions" or not tokens[1].isdigit():
        raise ValueError(f"{subject!r} is not sessions.<partition>.<tenant>.<session>.<family>")
    return EventSubject(int(tokens[1]), tokens[2], tokens[3], tokens[4])


def session_filter(tenant: str, session_id: str) -> str:
    """Return the filter for all events of one session; pass `*` to match any tenant."""
    return f"sessions.{partition_of(session_id)}.{tenant}.{session_id}.>"


def partition_filter(partition: int) -> str:
    """Return the filter for all events of one partition."""
    return f"sessions.{partition}.>"


def committed_subject(tenant: str, session_id: str) -> str:
    """Return the subject that a session's commits are announced on."""
    return f"committed.{partition_of(session_id)}.{tenant}.{session_id}"


def committed_filter(partition: int | None = None, tenant: str | None = None) -> str:
    """Return the filter for the announcements of one partition, of one tenant, or of all."""
    token = "*" if partition is None else str(partition)
    if tenant is not None:
        return f"committed.{token}.{tenant}.>"
    return "committed.>" if partition is None else f"committed.{token}.>"
