"""Announce what was committed to the followers of the log."""

from collections.abc import Iterable, Mapping, Sequence

from antiphon.contracts.subjects import committed_subject
from antiphon.persistence.ingest.validate import ValidEvent

MAX_BYTES = 512 * 1024  # half of the largest message that NATS accepts by default


def announcements(
    events: Sequence[ValidEvent], sequences: Mapping[int, int], largest: int
) -> list[tuple[str, bytes]]:
    """Return the messages (subject, payload) for one commit: its new envelopes by session, in order.

    `sequences` maps the position of each new event to its sequence; other events are not announced. `largest`
    is the largest payload in bytes. An envelope that does not fit, with its two numbers, is announced as an
    empty list: followers read the log.
    """
    sessions: dict[str, list[bytes]] = {}
    subjects: dict[str, str] = {}
    for event in events:
        sequence = sequences.get(event.incoming.position)
        if sequence is None:
            continue
        session_id = event.envelope.subject
        if session_id not in sessions:
            sessions[session_id] = []
            subjects[session_id] = committed_subject(event.envelope.tenant, session_id)
        sessions[session_id].append(_committed(event, sequence))
    return [
        (subjects[session_id], b"[" + b",".join(chunk) + b"]")
        for session_id, envelopes in sessions.items()
        for chunk in _chunks(envelopes, largest - len(b"[]"))
    ]


def _committed(event: ValidEvent, sequence: int) -> bytes:
    # The two numbers are inserted before the closing brace: cheaper than to encode the envelope again.
    head = event.incoming.payload.rstrip()[:-1]
    return b'%b,"sequence":%d,"position":%d}' % (head, sequence, event.incoming.position)


def _chunks(envelopes: list[bytes], largest: int) -> Iterable[list[bytes]]:
    limit = min(MAX_BYTES, largest)
    chunk: list[bytes] = []
    size = 0
    for envelope in envelopes:
        if chunk and size + len(envelope) > limit:
            yield chunk
            chunk, size = [], 0
        if len(envelope) > largest:
            yield []
            continue
        chunk.append(envelope)
        size += len(envelope) + 1
    if chunk:
        yield chunk
