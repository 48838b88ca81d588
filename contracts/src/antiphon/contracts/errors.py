"""Errors of decoding events."""


class ContractError(Exception):
    """The message violates the contract."""


class MalformedEvent(ContractError):
    """The bytes are not a valid envelope, or `data` does not match the schema of its type."""


class UnknownEventType(ContractError):
    """The type is not in the catalogue; it may come from a newer producer."""


class UnsupportedEventVersion(ContractError):
    """The type is known, but not in this version; it may come from a newer producer."""
