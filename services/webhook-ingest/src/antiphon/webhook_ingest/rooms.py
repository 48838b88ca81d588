"""The session of a room: requested by a client, or adopted by a recorder.

A requested session has the name of its room as its id. Recorders announce the rooms that they adopt in the
bucket `rooms`, by the sid of the room.
"""

from collections import OrderedDict

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.contracts.deployment import is_deployment_id
from antiphon.contracts.event import Family
from antiphon.contracts.ids import DEFAULT_TENANT, adopted_session_id, is_session_id, is_tenant
from antiphon.contracts.rooms import AdoptedRoom, decode_room, room_key
from antiphon.contracts.streams import ROOMS
from antiphon.contracts.subjects import event_subject, parse_event_subject

CACHE_SIZE = 10_000  # rooms of about 300 bytes: name and id are a session id, a tenant is short too
MAX_CALLS = 10  # in one room, when no recorder could announce them


class _RoomMetadata(msgspec.Struct):
    session_id: str
    tenant: str


class _Owner(msgspec.Struct):
    session_id: str = ""
    deployment: str = ""


_metadata = msgspec.json.Decoder(_RoomMetadata)
_owner = msgspec.json.Decoder(_Owner)


def other_deployment(metadata: str, deployment: str) -> str | None:
    """Return the id of another deployment, on the same LiveKit server, that a room's metadata names.

    Rooms of earlier versions name none. Without a session beside it, the word is one of the application.
    """
    try:
        owner = _owner.decode(metadata or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None  # not written by session-api
    named = is_session_id(owner.session_id) and is_deployment_id(owner.deployment)
    return owner.deployment if named and owner.deployment != deployment else None


class RoomSessions:
    """Sessions by room, with a bounded cache of those that a client requested."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._cache: OrderedDict[str, AdoptedRoom] = OrderedDict()  # by name

    async def of_room(self, name: str, sid: str, metadata: str) -> AdoptedRoom | None:
        """Return the session that owns the room and its tenant, the newest one; None for any other room.

        `sid` and `metadata` are "" in webhooks that lack them. Raises BusUnavailable.
        """
        found = self._cache.get(name) or await self._requested(name, metadata)
        if found is None:
            return await self._adopted(sid)  # not cached: a later call in the room is another session
        self._store(name, found)
        return found

    async def _requested(self, name: str, metadata: str) -> AdoptedRoom | None:
        if not is_session_id(name):
            return None
        tenant = _tenant_in(name, metadata) or await self._tenant_of(name)
        return None if tenant is None else AdoptedRoom(name, tenant)

    async def _adopted(self, sid: str) -> AdoptedRoom | None:
        key = room_key(sid)
        if key is None:
            return None
        announced = await (await self._bus.bucket(ROOMS.name)).get(key)
        room = None if announced is None else decode_room(announced)
        if room is not None:
            return room
        # a recorder that could not write to the bucket: the id of most adopted rooms is known
        newest: AdoptedRoom | None = None
        for call in range(1, MAX_CALLS + 1):
            session_id = adopted_session_id(DEFAULT_TENANT, sid, call)
            tenant = await self._tenant_of(session_id)
            if tenant is None:
                break
            newest = AdoptedRoom(session_id, tenant)
        return newest

    async def _tenant_of(self, session_id: str) -> str | None:
        last = await self._bus.last(event_subject("*", session_id, Family.SESSION))
        return None if last is None else parse_event_subject(last.subject).tenant

    def _store(self, key: str, found: AdoptedRoom) -> None:
        self._cache[key] = found
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


def _tenant_in(name: str, metadata: str) -> str | None:
    """Return the tenant that session-api stored in the room's metadata."""
    if not metadata:
        return None
    try:
        decoded = _metadata.decode(metadata)
    except (msgspec.DecodeError, RecursionError):
        return None  # not written by session-api
    return decoded.tenant if decoded.session_id == name and is_tenant(decoded.tenant) else None
