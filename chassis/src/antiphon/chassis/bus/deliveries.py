"""What a consumer has delivered and nobody has taken yet; every delivery must follow the one before."""

from collections import deque

from antiphon.chassis.bus import ack_subject
from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.errors import ConsumerGap
from antiphon.chassis.bus.messages import Incoming


class Deliveries:
    """Check deliveries as they arrive, and keep them until they are taken."""

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._buffer: deque[Incoming] = deque()
        self._sequence = 0
        self._position = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def start_after(self, consumer_sequence: int) -> None:
        """Expect the delivery that follows this one."""
        self._sequence = consumer_sequence

    def must_reach(self, consumer_sequence: int) -> None:
        """Check that all that the server has delivered has arrived.

        Raises ConsumerGap.
        """
        if consumer_sequence != self._sequence:
            raise ConsumerGap(
                f"{self._consumer}: {consumer_sequence} were delivered and {self._sequence} arrived"
            )

    def add(self, msg: Message) -> None:
        """Take in a delivery.

        Raises ConsumerGap.
        """
        try:
            delivery = ack_subject.parse(msg.reply)
        except ValueError as error:
            raise ConsumerGap(f"{self._consumer}: {error}") from error
        if delivery.consumer_sequence != self._sequence + 1 or delivery.position <= self._position:
            raise ConsumerGap(
                f"{self._consumer}: delivery {delivery.consumer_sequence} of position {delivery.position} "
                f"came after {self._sequence} of position {self._position}"
            )
        self._sequence, self._position = delivery.consumer_sequence, delivery.position
        self._buffer.append(
            Incoming(
                subject=msg.subject,
                payload=msg.data,
                position=delivery.position,
                consumer_sequence=delivery.consumer_sequence,
                headers=msg.headers,
                published_at=delivery.published_at,
                ack_subject=msg.reply,
            )
        )

    def take(self, limit: int) -> list[Incoming]:
        """Hand out what is there, at most `limit`."""
        if len(self._buffer) <= limit:
            taken = list(self._buffer)
            self._buffer.clear()
            return taken
        return [self._buffer.popleft() for _ in range(limit)]
