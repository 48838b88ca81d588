"""Events that could not be written to the disk, held in memory until they are published."""

from collections import deque
from itertools import islice

EVENTS_HELD = 10_000
BYTES_HELD = 16 * 1024 * 1024


class Held:
    """A queue of events and the keys that they settle, bounded in events and in bytes."""

    def __init__(self) -> None:
        self.size = 0  # bytes
        self._events: deque[tuple[bytes, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: bytes, settles: bytes) -> bool:
        """Hold an event; return False when there is no room."""
        if len(self._events) >= EVENTS_HELD or self.size + len(event) > BYTES_HELD:
            return False
        self._events.append((event, settles))
        self.size += len(event)
        return True

    def oldest(self) -> tuple[bytes, bytes]:
        """Return the oldest event and the key that it settles."""
        return self._events[0]

    def first(self, limit: int, most_bytes: int) -> list[bytes]:
        """Return the oldest events: one at least, and no more than `limit` and `most_bytes`."""
        lines: list[bytes] = []
        size = 0
        for event, _ in islice(self._events, limit):
            size += len(event)
            if lines and size > most_bytes:
                break
            lines.append(event)
        return lines

    def remove(self, count: int) -> list[bytes]:
        """Remove the oldest events; return the keys that they settle."""
        removed = [self._events.popleft() for _ in range(count)]
        self.size -= sum(len(event) for event, _ in removed)
        return [settles for _, settles in removed if settles]

    def clear(self) -> None:
        """Remove all events."""
        self._events.clear()
        self.size = 0
