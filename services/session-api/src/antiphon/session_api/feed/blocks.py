"""Committed events as server-sent events, encoded once for all streams of a tenant that send them.

The `id` of each is the cursor after it, so that a reader can resume behind any event.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from antiphon.chassis.log import Batch
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.subjects import partition_of
from antiphon.session_api.feed.reading import position_of
from antiphon.session_api.sessions.rendering import as_event

BLOCK_BYTES = 128 << 10  # of a block, unless its only event is larger
ENTRY_BYTES = 300  # of the memory of an entry, about


class Entry(Struct, frozen=True, gc=False):
    """One event of a block: what filters and cursors need of it, and its bytes in the chunk."""

    type: str
    subject: str
    partition: int
    position: int
    start: int
    end: int


class Block(Struct, frozen=True):
    """Events between two cursors, and the bytes of a stream that sends them all."""

    before: Cursor
    after: Cursor
    entries: Sequence[Entry]
    chunk: bytes

    @property
    def size(self) -> int:
        """About the memory of the block."""
        return len(self.chunk) + ENTRY_BYTES * len(self.entries)

    def of(self, entries: Sequence[Entry]) -> bytes:
        """Return the bytes of some of its entries."""
        if len(entries) == len(self.entries):
            return self.chunk
        return b"".join([self.chunk[entry.start : entry.end] for entry in entries])

    def renumbered(self, entries: Iterable[Entry], cursor: Cursor, log_id: str) -> bytes:
        """Return the bytes of some of its entries for a reader at this cursor, not at `before`."""
        parts: list[bytes] = []
        for entry in entries:
            cursor = cursor.moved(((entry.partition, entry.position),))
            rest = self.chunk.index(b"\n", entry.start)
            parts += (id_line(cursor, log_id), self.chunk[rest + 1 : entry.end])
        return b"".join(parts)


def id_line(cursor: Cursor, log_id: str) -> bytes:
    """Return the line that gives a stream this cursor as its last id."""
    return b"id: %s\n" % cursor.encode(log_id).encode()


def blocks(before: Cursor, batch: Batch, log_id: str) -> Iterator[Block]:
    """Yield what was read after a cursor in blocks, the last of which ends at the cursor of the batch."""
    reached, parts, entries, size = before, list[bytes](), list[Entry](), 0
    last = len(batch.envelopes) - 1
    for number, envelope in enumerate(batch.envelopes):
        partition, position = partition_of(envelope.subject), position_of(envelope)
        reached = batch.cursor if number == last else reached.moved(((partition, position),))
        parts.append(as_event(envelope, reached.encode(log_id)))
        end = size + len(parts[-1])
        entries.append(Entry(envelope.type, envelope.subject, partition, position, size, end))
        size = end
        if size >= BLOCK_BYTES or number == last:
            yield Block(before, reached, entries, b"".join(parts))
            before, parts, entries, size = reached, [], [], 0
