"""Announce adopted rooms, so that LiveKit's webhooks of the room find its session."""

from antiphon.chassis.bus import Bus, BusError, KeyExists
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import SessionAdopted
from antiphon.contracts.registry import open_event
from antiphon.contracts.rooms import AdoptedRoom, encode_room, room_key
from antiphon.contracts.streams import ROOMS

log = get_logger(__name__)


async def announce_room(bus: Bus, envelope: Envelope) -> None:
    """Announce the room of a published `session.adopted`; other events and failures change nothing.

    The first session that adopts a room keeps it.
    """
    if envelope.type != SessionAdopted.TYPE:
        return
    adopted = open_event(envelope)
    key = room_key(adopted.room_sid) if isinstance(adopted, SessionAdopted) else None
    if key is None:
        return
    value = encode_room(AdoptedRoom(envelope.subject, envelope.tenant))
    try:
        await (await bus.bucket(ROOMS.name)).create(key, value)
    except KeyExists:
        return
    except BusError as error:  # the record is complete without it
        log.warning("outbox.room_not_announced", extra={"session": envelope.subject, "error": str(error)})
