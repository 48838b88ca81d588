"""A session that no client requested: its id, and `session.adopted`, its first event."""

import asyncio
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Any

import msgspec
from livekit.agents import JobContext

from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.events.session import SessionAdopted
from antiphon.contracts.ids import adopted_session_id
from antiphon.contracts.rooms import decode_room, room_key
from antiphon.contracts.streams import ROOMS
from antiphon.contracts.validate import is_nested_deeper
from antiphon.recorder.admission import session_on
from antiphon.recorder.outbox import BusLink
from antiphon.recorder.readiness import encodable

log = get_logger(__name__)

METADATA_LIMIT_BYTES = 16 * 1024  # as for sessions that a client requests
TEXT_LIMIT = 256  # characters
MAX_DEPTH = 64  # levels of nesting
RESOLVE_SECONDS = 1.0  # the agent waits for it
MAX_CALLS = 10_000  # in one room, of which the newest is found without reading those before


async def session_of_room(
    link: BusLink, tenant: str, room_sid: str, *, ended: AbstractSet[str] = frozenset()
) -> str:
    """Return the session of a room: its first call that has not ended, the same for every agent in it.

    `ended` are sessions whose end may not be published yet. Without an answer of the broker, for which this
    waits a second at most, it is the first call that is not among them.
    """
    ids = (adopted_session_id(tenant, room_sid, call) for call in count(1))
    first = next(session_id for session_id in ids if session_id not in ended)
    if not link.enabled:
        return first
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            return await _newest_call(await link.reachable_bus(), tenant, room_sid, ended)
    except Exception as error:  # noqa: BLE001 - a recorder ends no job
        extra = {"room_sid": room_sid, "session_id": first, "error": repr(error)}
        log.warning("recorder.earlier_calls_unknown", extra=extra)
        return first


async def _newest_call(bus: Bus, tenant: str, room_sid: str, ended: AbstractSet[str]) -> str:
    call = await _announced_call(bus, tenant, room_sid)
    while True:
        session_id = adopted_session_id(tenant, room_sid, call)
        if session_id not in ended and not (await session_on(bus, tenant, session_id)).ended:
            return session_id
        call += 1


async def _announced_call(bus: Bus, tenant: str, room_sid: str) -> int:
    """Return the number of the call that is in the bucket, the room's newest, or 1."""
    key = room_key(room_sid)
    try:
        value = None if key is None else await (await bus.bucket(ROOMS.name)).get(key)
    except BusError:
        return 1
    room = None if value is None else decode_room(value)
    if room is None or room.tenant != tenant:
        return 1
    calls = range(1, MAX_CALLS + 1)
    return next((n for n in calls if adopted_session_id(tenant, room_sid, n) == room.session_id), 1)


def session_adopted(
    ctx: JobContext, *, user_id: str | None, language: str | None, metadata: dict[str, Any] | None
) -> SessionAdopted:
    """Return the event for the room of a job; what cannot be stored is left out, with a warning."""
    job = ctx.job
    return SessionAdopted(
        room=job.room.name,
        room_sid=job.room.sid or None,
        agent_name=job.agent_name or None,
        user_id=_text("user_id", user_id),
        language=_text("language", language),
        metadata=_storable(metadata),
    )


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= TEXT_LIMIT and value.isprintable():
        return value
    text = encodable(str(value))[:TEXT_LIMIT]
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    log.warning("recorder.text_changed", extra={"field": name, "limit": TEXT_LIMIT})
    return text or None


def _storable(metadata: object) -> dict[str, Any]:
    if metadata is None:
        return {}
    try:
        encoded = msgspec.json.encode(metadata)
        decoded: object = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        return _left_out(f"it is not JSON: {type(error).__name__}")
    if not isinstance(decoded, dict):
        return _left_out("it is not a dict")
    if len(encoded) > METADATA_LIMIT_BYTES:
        return _left_out(f"{len(encoded)} bytes as JSON; at most {METADATA_LIMIT_BYTES} are stored")
    if is_nested_deeper(encoded.decode(), MAX_DEPTH):
        return _left_out(f"it is nested deeper than {MAX_DEPTH} levels")
    return decoded


def _left_out(why: str) -> dict[str, Any]:
    log.warning("recorder.metadata_left_out", extra={"why": why})
    return {}
