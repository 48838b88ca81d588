"""What can go wrong between us and the broker."""


class BusError(Exception):
    """The broker refused or could not do what was asked."""


class BusUnavailable(BusError):
    """The broker did not answer before the deadline: the outcome is unknown, and a retry is harmless."""


class StreamFull(BusUnavailable):
    """The stream holds all that it may hold; new events are refused rather than old ones dropped."""


class PayloadTooLarge(BusError):
    """The message is larger than the broker accepts; no retry can help."""


class SubjectNotEmpty(BusError):
    """Another message is already there, where there had to be none."""


class ConsumerGap(BusError):
    """Deliveries are missing or out of order: reset the consumer and pull again."""


class ConsumerLost(BusError):
    """The consumer or its stream is gone: make the definitions again, then reset and pull."""


class StreamReplaced(BusError):
    """The stream ends before a position that was already read from it: it was made anew, or restored."""


class HistoryGap(BusError):
    """The broker's answer skipped part of a history and did not mend on asking again."""


class KeyExists(BusError):
    """The bucket already holds this key."""


class DefinitionMismatch(BusError):
    """A stream, consumer or bucket differs from its definition in a way that matters."""
