"""Parse the ack subject of a delivery: 9 tokens, or 11 and more with domain and account."""

from datetime import UTC, datetime
from typing import NamedTuple


class Delivery(NamedTuple):
    """Say where a delivered message stands: in the stream, in its consumer, and in time."""

    position: int
    consumer_sequence: int
    deliveries: int
    published_at: datetime
    pending: int


def parse(ack_subject: str) -> Delivery:
    """Read `$JS.ACK.…`.

    Raises ValueError.
    """
    tokens = ack_subject.split(".")
    if len(tokens) == 9:
        deliveries, position, consumer_sequence, nanoseconds, pending = tokens[4:9]
    elif len(tokens) >= 11:
        deliveries, position, consumer_sequence, nanoseconds, pending = tokens[6:11]
    else:
        raise ValueError(f"not an ack subject: {ack_subject!r}")
    published_at = datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC)
    return Delivery(int(position), int(consumer_sequence), int(deliveries), published_at, int(pending))
