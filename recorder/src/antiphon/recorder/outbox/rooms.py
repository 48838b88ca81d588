"""Announce adopted rooms, so that LiveKit's webhooks of the room find its session."""

from antiphon.chassis.bus import Bucket, Bus, BusError, KeyExists
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import SessionAdopted
from antiphon.contracts.registry import open_event
from antiphon.contracts.rooms import AdoptedRoom, decode_room, encode_room, room_key
from antiphon.contracts.streams import ROOMS

log = get_logger(__name__)


async def announce_room(bus: Bus, envelope: Envelope) -> None:
    """Announce the room of a published `session.adopted`; other events and failures change nothing.

    A room belongs to the session that adopted it last: LiveKit keeps a room for a later call.
    """
    if envelope.type != SessionAdopted.TYPE:
        return
    adopted = open_event(envelope)
    key = room_key(adopted.room_sid) if isinstance(adopted, SessionAdopted) else None
    if key is None:
        return
    try:
        await _announce(await bus.bucket(ROOMS.name), key, envelope)
    except BusError as error:  # the record is complete without it
        log.warning("outbox.room_not_announced", extra={"session_id": envelope.subject, "error": str(error)})


async def _announce(bucket: Bucket, key: str, envelope: Envelope) -> None:
    value = encode_room(AdoptedRoom(envelope.subject, envelope.tenant, envelope.time))
    try:
        await bucket.create(key, value)
    except KeyExists:
        known = decode_room(await bucket.get(key) or b"")
        # the journal of a killed job may be published after a later call has begun
        if known is None or _is_older(known, envelope):
            await bucket.put(key, value)


def _is_older(known: AdoptedRoom, envelope: Envelope) -> bool:
    other = known.session_id != envelope.subject
    return other and (known.adopted_at is None or known.adopted_at < envelope.time)
