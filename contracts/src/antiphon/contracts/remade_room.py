"""Whether the room of a requested session was made again after the session had ended.

A caller who joins with an old token makes LiveKit create the room again, with the dispatch of an agent. The
room in which the session ended is another case: people may go on talking in it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.events.session import SessionDispatched
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import fold


def room_created_at(*, seconds: int, milliseconds: int = 0) -> datetime | None:
    """Return when LiveKit created a room, by the fields of its protobuf message; None if they are 0.

    Older servers give no milliseconds.
    """
    milliseconds = milliseconds or seconds * 1000
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else None


def is_remade(envelopes: Sequence[Envelope], *, room_sid: str, created_at: datetime | None) -> bool:
    """Return whether a room was created after the session of these events had ended, in their order.

    False if that is not known: without the time of its creation, or for the room that was dispatched.
    """
    if not envelopes or created_at is None:
        return False
    state = fold(envelopes[0].subject, envelopes[0].tenant, envelopes)
    if state.ended_at is None or created_at <= state.ended_at:
        return False
    return room_sid not in _dispatched(envelopes)


def _dispatched(envelopes: Sequence[Envelope]) -> set[str]:
    sids: set[str] = set()
    for envelope in envelopes:
        if envelope.type == SessionDispatched.TYPE:
            try:
                event = open_event(envelope)
            except ContractError:
                continue
            if isinstance(event, SessionDispatched):
                sids.add(event.room_sid)
    return sids
