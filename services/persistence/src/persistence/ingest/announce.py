"""Say what was just committed, to whoever follows the log."""

from collections.abc import Iterable, Sequence

from contracts.subjects import committed_subject
from persistence.ingest.judge import Entry

LIMIT_BYTES = 512 * 1024  # half of what NATS carries by default

Announcement = tuple[str, bytes]


def announcements(entries: Sequence[Entry], numbered: Iterable[tuple[int, int]]) -> list[Announcement]:
    """Make the messages for one commit: per session, its new envelopes in order.

    `numbered` pairs the ordinal of an entry, from 1, with the sequence that its commit gave it.
    """
    sessions: dict[str, list[bytes]] = {}
    for ordinal, sequence in numbered:
        entry = entries[ordinal - 1]
        subject = committed_subject(entry.envelope.tenant, entry.envelope.subject)
        sessions.setdefault(subject, []).append(_committed(entry, sequence))
    return [
        (subject, b"[" + b",".join(part) + b"]")
        for subject, envelopes in sessions.items()
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
