"""The tenant of a room: from its metadata, else from the cache, else from the session's events."""

from collections import OrderedDict

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.contracts.event import Family
from antiphon.contracts.ids import is_session_id
from antiphon.contracts.subjects import event_subject, parse_event_subject

CACHE_SIZE = 10_000  # rooms


class _RoomMetadata(msgspec.Struct):
    session_id: str
    tenant: str


_metadata = msgspec.json.Decoder(_RoomMetadata)


class Tenants:
    """Tenants by room, with a bounded cache."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._cache: OrderedDict[str, str] = OrderedDict()

    async def of_room(self, room_name: str, room_metadata: str) -> str | None:
        """Return the tenant of the session that owns the room; None for any other room.

        Raises BusUnavailable.
        """
        if not is_session_id(room_name):
            return None
        tenant = self._cache.get(room_name) or _from_metadata(room_name, room_metadata)
        if tenant is None:
            tenant = await self._from_events(room_name)
        if tenant is not None:
            self._store(room_name, tenant)
        return tenant

    async def _from_events(self, session_id: str) -> str | None:
        last = await self._bus.last(event_subject("*", session_id, Family.SESSION))
        return None if last is None else parse_event_subject(last.subject).tenant

    def _store(self, room_name: str, tenant: str) -> None:
        self._cache[room_name] = tenant
        self._cache.move_to_end(room_name)
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


def _from_metadata(room_name: str, room_metadata: str) -> str | None:
    """Return the tenant that session-api stored in the room's metadata."""
    if not room_metadata:
        return None
    try:
        metadata = _metadata.decode(room_metadata)
    except msgspec.DecodeError:
        return None  # not written by session-api
    return metadata.tenant if metadata.session_id == room_name else None
