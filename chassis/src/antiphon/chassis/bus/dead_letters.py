"""The dead letters of a consumer: a stream of its own for events that it could not handle."""

import json
from typing import Any

from antiphon.chassis.bus.connection import TRANSIENT, Connection
from antiphon.chassis.bus.durable import dead_letter_stream, dead_letter_subject
from antiphon.chassis.bus.errors import ApiError, BusUnavailable, PayloadTooLarge, StreamFull
from antiphon.contracts.streams import MEBIBYTE

NOT_FOUND = 404
MAX_BYTES = 64 * MEBIBYTE
REASON_LENGTH = 500  # characters
# The headers of a dead letter; its payload is that of the event.
SUBJECT, POSITION, DELIVERIES, REASON = (
    "Antiphon-Subject",
    "Antiphon-Position",
    "Antiphon-Deliveries",
    "Antiphon-Reason",
)
LEFT_OUT = "Antiphon-Payload-Left-Out"


class DeadLetters:
    """The dead letters of one consumer; while their stream is full, events stay with the consumer."""

    def __init__(self, connection: Connection, consumer: str) -> None:
        self.stream = dead_letter_stream(consumer)
        self._subject = dead_letter_subject(consumer)
        self._connection = connection

    async def ensure(self) -> None:
        """Make the stream if it does not exist; one that does is left as it is.

        Raises BusUnavailable, ApiError.
        """
        try:
            await self._connection.api(f"STREAM.INFO.{self.stream}")
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            await self._connection.api(f"STREAM.CREATE.{self.stream}", self._config())

    async def store(self, payload: bytes, subject: str, position: int, deliveries: int, reason: str) -> None:
        """Store an event and why it was not handled; a second time for the same event does nothing.

        Raises BusUnavailable, StreamFull.
        """
        headers = {
            "Nats-Msg-Id": f"{position}",
            SUBJECT: _line(subject),
            POSITION: f"{position}",
            DELIVERIES: f"{deliveries}",
            REASON: _line(reason)[:REASON_LENGTH],
        }
        try:
            self._connection.check_size(payload, headers)
        except PayloadTooLarge:  # with these headers; the event is in the stream of events, at its position
            payload, headers = b"", {**headers, LEFT_OUT: f"{len(payload)} bytes"}
        try:
            reply = await self._connection.request(self._subject, payload, headers)
        except TRANSIENT as error:
            raise BusUnavailable(
                f"the dead letter of position {position} was not stored: {error!r}"
            ) from error
        if reply.status is not None:
            raise BusUnavailable(f"no stream stores {self._subject}: {self.stream} is gone")
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            raise StreamFull(f"{self.stream}: {answer['error'].get('description')}")

    def _config(self) -> dict[str, Any]:
        return {
            "name": self.stream,
            "description": "Events that a consumer could not handle",
            "subjects": [self._subject],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_bytes": MAX_BYTES,
        }


def _line(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())
