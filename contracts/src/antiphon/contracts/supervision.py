"""Those who watch a session: their roles, the command that admits one, the topic of their messages."""

import re
from typing import Any, Final, Literal, get_args

from antiphon.contracts.event import Event
from antiphon.contracts.events.command import CommandRequested

Role = Literal["monitor", "supervisor", "admin"]
ROLES: Final = frozenset(get_args(Role))
SUPERVISE: Final = "supervise"  # the verb of the command, and the start of its id
TOPIC: Final = "flow-events"  # of the data messages

_identity = re.compile(rf"^({'|'.join(sorted(ROLES))}):")


def is_supervisor_identity(identity: str) -> bool:
    """Return whether an identity is one that only a token with a role has."""
    return _identity.match(identity) is not None


def admitted(event: Event) -> tuple[str, str] | None:
    """Return the identity and the role that a command admits, or None for another event."""
    if not isinstance(event, CommandRequested) or event.verb != SUPERVISE:
        return None
    identity, role = event.arguments.get("identity"), event.arguments.get("role")
    if not isinstance(identity, str) or role not in ROLES or not is_supervisor_identity(identity):
        return None
    return identity, str(role)


def role_in(metadata: Any) -> str | None:
    """Return the role in the decoded metadata of a participant, None for none."""
    role = metadata.get("role") if isinstance(metadata, dict) else None
    return role if isinstance(role, str) and role in ROLES else None
