"""Tell everyone that the agent is ready: the room here, the log where the event is written."""

from datetime import datetime

import msgspec
import structlog
from livekit import rtc

log = structlog.get_logger(__name__)

TOPIC = "agent-status"


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What participants receive on the topic `agent-status`."""

    type: str
    session_id: str
    greeting: str
    timestamp: datetime


async def tell_room(room: rtc.Room, status: AgentStatus) -> None:
    """Send the status to everyone in the room; a room that is gone needs no telling."""
    try:
        await room.local_participant.publish_data(msgspec.json.encode(status), reliable=True, topic=TOPIC)
    except Exception as error:  # noqa: BLE001 - the room can go at any moment; the log has the event
        log.warning("recorder.room_not_told", error=str(error))
