"""Rooms that callers made again after the end of their session: they are deleted.

A caller with an old token makes LiveKit create the room again. The recorder of the agent that comes then
deletes it; this is for the rooms to which no recorder comes.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

import structlog
from livekit import api

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus, envelope_of
from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Family
from antiphon.contracts.remade_room import is_remade, room_created_at
from antiphon.contracts.rooms import AdoptedRoom
from antiphon.contracts.session import TERMINAL_TYPES
from antiphon.contracts.subjects import event_subject
from antiphon.webhook_ingest.webhook import Webhook

SIGNS = ("room_started", "participant_joined")  # of life, in a room
RECORDER_SECONDS = 3.0  # for a recorder to delete it: deleted twice at a time, LiveKit opens a room once more
DEADLINE_SECONDS = 8.0
QUEUED = 1000  # rooms of some 500 bytes
REMEMBERED = 10_000  # rooms that were deleted, of 20 bytes

log = structlog.get_logger(__name__)


class Rooms(Protocol):
    """The part of LiveKit's room service that is used."""

    async def delete(self, name: str, sid: str) -> bool:
        """Delete the room of this name if it has this sid; return whether it had. Raises any error."""


class LiveKitRooms:
    """The room service of a LiveKit server."""

    def __init__(self, url: str, keys: LiveKitKeys) -> None:
        self._url = url
        self._keys = keys

    async def delete(self, name: str, sid: str) -> bool:
        """Delete the room of this name if it has this sid; return whether it had."""
        async with api.LiveKitAPI(self._url, *self._keys.current, failover=False) as livekit:
            found = await livekit.room.list_rooms(api.ListRoomsRequest(names=[name]))
            if not any(room.sid == sid for room in found.rooms):
                return False
            await livekit.room.delete_room(api.DeleteRoomRequest(room=name))
            return True


class EndedRooms:
    """Looks at rooms in the background, one after the other; delays no webhook, and raises nothing."""

    def __init__(self, bus: Bus, rooms: Rooms, *, wait_seconds: float = RECORDER_SECONDS) -> None:
        self._bus = bus
        self._rooms = rooms
        self._wait_seconds = wait_seconds
        self._queue: asyncio.Queue[tuple[float, Webhook, AdoptedRoom]] = asyncio.Queue(QUEUED)
        self._deleted: OrderedDict[str, None] = OrderedDict()  # by sid
        self._task = BackgroundTask(self._run, name="ended-rooms")

    def look(self, webhook: Webhook, session: AdoptedRoom) -> None:
        """Look at the room of a webhook later, if the webhook may be of one that was made again."""
        if webhook.event not in SIGNS or webhook.room.name != session.session_id or not webhook.room.sid:
            return
        try:
            due = asyncio.get_running_loop().time() + self._wait_seconds
            self._queue.put_nowait((due, webhook, session))
        except asyncio.QueueFull:  # the next participant is another sign
            log.warning("ended_rooms.queue_full", session_id=session.session_id)

    async def close(self) -> None:
        """Stop; what is not looked at yet stays open."""
        await self._task.close()

    async def _run(self) -> None:
        while True:
            due, webhook, session = await self._queue.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await self._look(webhook, session)
            except Exception as error:  # noqa: BLE001 - the next participant is another sign
                log.warning("ended_rooms.failed", session_id=session.session_id, error=repr(error))

    async def _look(self, webhook: Webhook, session: AdoptedRoom) -> None:
        room = webhook.room
        if room.sid in self._deleted or not await self._is_remade(webhook, session):
            return
        if await self._rooms.delete(room.name, room.sid):
            log.info("ended_rooms.deleted", session_id=session.session_id, room_sid=room.sid)
        self._deleted[room.sid] = None
        if len(self._deleted) > REMEMBERED:
            self._deleted.popitem(last=False)

    async def _is_remade(self, webhook: Webhook, session: AdoptedRoom) -> bool:
        subject = event_subject(session.tenant, session.session_id, Family.SESSION)
        newest = await self._bus.last(subject)
        if newest is None or decode(newest.payload).type not in TERMINAL_TYPES:
            return False  # as for all but a few
        room = webhook.room
        created_at = room_created_at(seconds=room.creation_time, milliseconds=room.creation_time_ms)
        read = [envelope_of(incoming) async for incoming in self._bus.read(subject)]
        envelopes = [envelope for envelope in read if envelope is not None]
        return is_remade(envelopes, room_sid=room.sid, created_at=created_at)
