"""Errors of decoding events."""


class ContractError(Exception):
    """The message violates the contract."""


class MalformedEvent(ContractError):
    """The bytes are not a valid envelope, or `data` does not match the schema of its type."""


class InvalidEvent(ContractError):
    """The message can never be part of the event log."""


class InvalidBody(InvalidEvent):
    """The body of the event can never be part of the event log; a client may have sent what is in it."""


class UnknownEventType(ContractError):
    """The type is not in the catalogue; it may come from a newer producer."""


class UnsupportedEventVersion(ContractError):
    """The type is known, but not in this version; it may come from a newer producer."""
