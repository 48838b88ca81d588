"""The announcement that the agent is ready: an event, and a message to everyone in the room."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec
from livekit import rtc

from antiphon.chassis.library_log import get_logger
from antiphon.contracts.events.agent import AgentReady
from antiphon.recorder.outbox import WriteEvent

log = get_logger(__name__)

TOPIC = "agent-status"


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The message on the data topic `agent-status`."""

    type: str
    session_id: str
    greeting: str
    timestamp: datetime


class Readiness:
    """The state of an agent, ready once it has greeted; it is announced once."""

    def __init__(
        self,
        room: rtc.Room,
        write: WriteEvent,
        *,
        session_id: str,
        now: Callable[[], datetime],
        notify_room: bool = True,
    ) -> None:
        self.requested_at = now()
        self.greeting = ""  # overrides the spoken one
        self.announced = False
        self._room = room if notify_room else None
        self._write = write
        self._session_id = session_id
        self._now = now
        self._sending: asyncio.Task[None] | None = None

    def announce(self, greeting: str) -> None:
        """Write `agent.ready` and send it to the room; calls after the first do nothing.

        Lone surrogates in the greeting are replaced: no encoding of JSON can hold them.
        """
        if self.announced:
            return
        self.announced = True
        greeting = encodable(self.greeting or greeting)
        waited = self._now() - self.requested_at
        self._write(AgentReady(greeting=greeting, ready_ms=max(0.0, waited.total_seconds() * 1000)))
        if self._room is None:
            return
        status = AgentStatus(
            type=AgentReady.TYPE, session_id=self._session_id, greeting=greeting, timestamp=self._now()
        )
        self._sending = asyncio.create_task(_send(self._room, status), name="agent-status")

    async def wait_sent(self, timeout_seconds: float) -> None:
        """Wait until the room has the announcement, if there was one."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=timeout_seconds)


def encodable(text: str) -> str:
    """Return the text with lone surrogates replaced by U+FFFD, and pairs of them by their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


async def _send(room: rtc.Room, status: AgentStatus) -> None:
    try:
        await room.local_participant.publish_data(msgspec.json.encode(status), reliable=True, topic=TOPIC)
    except Exception as error:  # noqa: BLE001 - the room may be closing; the event is written
        log.warning("recorder.agent_status_not_sent", extra={"error": str(error)})
