"""A stream in memory: messages by position, found by subject filter and by message id."""

from collections.abc import Iterator
from datetime import UTC, datetime

from antiphon.chassis.bus.messages import Incoming, Outgoing


def matches(subject_filter: str, subject: str) -> bool:
    """Say whether a subject falls under a filter: `*` is one token, a last `>` is one or more."""
    wanted, given = subject_filter.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


class Stored:
    """Keep messages in the order of their positions: 1, 2, 3."""

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self._by_id: dict[str, int] = {}

    def add(self, out: Outgoing, headers: dict[str, str]) -> Incoming:
        """Store a message at the next position."""
        incoming = Incoming(
            subject=out.subject,
            payload=out.payload,
            position=len(self.messages) + 1,
            consumer_sequence=0,
            headers=headers or None,
            published_at=datetime.now(UTC),
        )
        self.messages.append(incoming)
        if out.message_id:
            self._by_id[out.message_id] = incoming.position
        return incoming

    def position_of(self, message_id: str) -> int | None:
        """Return where a message id is stored."""
        return self._by_id.get(message_id)

    def matching(self, subject_filter: str, after: int = 0) -> Iterator[Incoming]:
        """Iterate over a filter's messages after a position, including those stored meanwhile."""
        position = after
        while position < len(self.messages):
            incoming = self.messages[position]
            position += 1
            if matches(subject_filter, incoming.subject):
                yield incoming

    def last(self, subject_filter: str) -> Incoming | None:
        """Return the newest message of a filter."""
        return next((m for m in reversed(self.messages) if matches(subject_filter, m.subject)), None)
