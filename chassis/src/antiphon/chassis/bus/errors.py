"""The errors of the bus."""

from typing import Any


class BusError(Exception):
    """The broker refused a request or could not carry it out."""


class BusUnavailable(BusError):
    """The broker did not answer before the deadline: the outcome is unknown, and a retry is safe."""


class ConnectionLost(BusUnavailable):
    """The connection broke before the reply arrived."""


class NotPermitted(BusUnavailable):
    """The user of this connection may not publish or subscribe to a subject, until its permissions change."""


class NoResponder(BusUnavailable):
    """Nobody is connected who answers requests on this subject."""


class StreamFull(BusUnavailable):
    """The stream has reached its limits or is sealed; it refuses new events and never drops old ones."""


class PayloadTooLarge(BusError):
    """The message is larger than the broker accepts; a retry cannot succeed."""


class InvalidSubject(BusError):
    """The subject is not valid; a retry cannot succeed."""


class SubjectNotEmpty(BusError):
    """The subject filter that had to be empty holds another message."""


class ConsumerGap(BusError):
    """Deliveries are missing or out of order: reset the consumer and pull again."""


class ConsumerLost(BusError):
    """The consumer or its stream is gone: create the consumer, then reset it and pull again."""


class StreamMissing(BusError):
    """The stream does not exist: created again, it would lose the events that were not read."""


class StreamReplaced(BusError):
    """The stream ends before a position that was read earlier: it was recreated or restored."""


class HistoryGap(BusError):
    """The broker's answer skipped part of a history, and so did every retry."""


class KeyExists(BusError):
    """The bucket already holds this key."""


class DefinitionMismatch(BusError):
    """A stream, consumer or bucket differs from its definition in a field that matters."""


class DefinitionMissing(DefinitionMismatch):
    """A stream, consumer or bucket does not exist; everything else is as defined."""


class StorageTooSmall(BusError):
    """The server may not store as much as a stream reserves: an operator must act; the message says how."""


class ApiError(BusError):
    """The JetStream API answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code = int(error.get("code", 0))
        self.err_code = int(error.get("err_code", 0))
        self.description = str(error.get("description", "no description"))

    def __str__(self) -> str:
        return f"{self.description} ({self.code}/{self.err_code})"
