"""What can be wrong with a message that claims to be one of our events."""


class ContractError(Exception):
    """A message breaks the contract."""


class MalformedEvent(ContractError):
    """The bytes are not an envelope, or its data does not fit the schema of its type."""


class UnknownEventType(ContractError):
    """The type is not in the catalogue; a newer producer may know it."""


class UnsupportedEventVersion(ContractError):
    """The type is known, but this version of it is newer than this reader."""
