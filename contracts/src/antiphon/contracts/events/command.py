"""Events of commands sent to a running session."""

from typing import ClassVar

from antiphon.contracts.event import Event, Family, PersonalMap


class CommandRequested(Event, frozen=True, kw_only=True):
    """A command for the session was requested over the API."""

    TYPE: ClassVar[str] = "command.requested"
    FAMILY: ClassVar[Family] = Family.COMMAND

    command_id: str
    verb: str
    actor: str
    arguments: PersonalMap = {}


class CommandApplied(Event, frozen=True, kw_only=True):
    """The command was applied to the session."""

    TYPE: ClassVar[str] = "command.applied"
    FAMILY: ClassVar[Family] = Family.COMMAND

    command_id: str
    verb: str


class CommandRejected(Event, frozen=True, kw_only=True):
    """The command was rejected."""

    TYPE: ClassVar[str] = "command.rejected"
    FAMILY: ClassVar[Family] = Family.COMMAND

    command_id: str
    verb: str
    reason: str
