"""Whose room is it: the room's metadata says so, and for webhooks without it, memory or the log."""

import re
from collections import OrderedDict

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.contracts.event import Family
from antiphon.contracts.subjects import event_subject, parse_event_subject

REMEMBERED = 10_000  # rooms

_SESSION_ID = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")


class _RoomMetadata(msgspec.Struct):
    session_id: str
    tenant: str


_metadata = msgspec.json.Decoder(_RoomMetadata)


class Tenants:
    """Find the tenant of a room, or that the room is none of ours."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: OrderedDict[str, str] = OrderedDict()

    async def of_room(self, room_name: str, room_metadata: str) -> str | None:
        """Return the tenant whose session this room is; None when it is no session's room.

        Raises BusUnavailable.
        """
        if _SESSION_ID.fullmatch(room_name) is None:
            return None
        tenant = self._known.get(room_name) or _in_metadata(room_name, room_metadata)
        if tenant is None:
            tenant = await self._on_the_log(room_name)
        if tenant is not None:
            self._remember(room_name, tenant)
        return tenant

    async def _on_the_log(self, session_id: str) -> str | None:
        last = await self._bus.last(event_subject("*", session_id, Family.SESSION))
        return None if last is None else parse_event_subject(last.subject).tenant

    def _remember(self, room_name: str, tenant: str) -> None:
        self._known[room_name] = tenant
        self._known.move_to_end(room_name)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _in_metadata(room_name: str, room_metadata: str) -> str | None:
    """Return the tenant that session-api wrote into the room's metadata."""
    if not room_metadata:
        return None
    try:
        metadata = _metadata.decode(room_metadata)
    except msgspec.DecodeError:
        return None  # not written by us: the log knows
    return metadata.tenant if metadata.session_id == room_name else None
