"""Say what was just committed, to whoever follows the log."""

from collections.abc import Iterable, Sequence

from antiphon.contracts.subjects import committed_subject
from antiphon.persistence.ingest.judge import Entry

LIMIT_BYTES = 512 * 1024  # half of what NATS carries by default

Announcement = tuple[str, bytes]


def announcements(entries: Sequence[Entry], numbered: Iterable[tuple[int, int]]) -> list[Announcement]:
    """Make the messages for one commit: per session, its new envelopes in order.

    `numbered` pairs the ordinal of an entry, from 1, with the sequence that its commit gave it.
    """
    sessions: dict[str, list[bytes]] = {}
    tenants: dict[str, str] = {}
    for ordinal, sequence in numbered:
        entry = entries[ordinal - 1]
        session_id = entry.envelope.subject
        if session_id not in sessions:
            sessions[session_id] = []
            tenants[session_id] = entry.envelope.tenant
        sessions[session_id].append(_committed(entry, sequence))
    return [
        (committed_subject(tenants[session_id], session_id), b"[" + b",".join(part) + b"]")
        for session_id, envelopes in sessions.items()
        for part in _parts(envelopes)
    ]


def _committed(entry: Entry, sequence: int) -> bytes:
    # The two numbers are spliced in before the closing brace: cheaper than to encode the envelope again.
    opened = entry.incoming.payload.rstrip()[:-1]
    return b'%b,"sequence":%d,"position":%d}' % (opened, sequence, entry.incoming.position)


def _parts(envelopes: list[bytes]) -> Iterable[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for envelope in envelopes:
        if part and size + len(envelope) > LIMIT_BYTES:
            yield part
            part, size = [], 0
        part.append(envelope)
        size += len(envelope) + 1
    yield part
