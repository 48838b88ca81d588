"""Send those who watch a session what its flow does: data messages with the topic `flow-events`."""

import asyncio
from collections import deque
from datetime import datetime

import msgspec
import structlog
from livekit import rtc

from antiphon.chassis.background import BackgroundTask
from antiphon.contracts.envelope import decode
from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import Event, Family
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import event_subject
from antiphon.contracts.supervision import TOPIC, admitted, role_in
from antiphon.recorder import Recording
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

TOLD = frozenset({Family.AGENT, Family.TURN, Family.TOOL})  # of the events that are sent
MAX_BYTES = 14_000  # of a message: LiveKit loses larger ones
QUEUE_BYTES = 1 << 20
SEND_SECONDS = 5.0
READ_SECONDS = 30.0

_encode = msgspec.json.Encoder().encode


class FlowEvents:
    """The messages of one session, and who gets them: nobody but those who may watch.

    Who may is on record (`command.requested` with the verb `supervise`), as hidden participants are seen by
    nobody; or it is in the metadata of their token, which they cannot change.
    """

    def __init__(self, room: rtc.Room, link: BusLink, identity: Identity) -> None:
        self._room = room
        self._link = link
        self._subject = event_subject(identity.tenant, identity.session_id, Family.COMMAND)
        self._admitted: set[str] = set()
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._wake = asyncio.Event()
        self._following = BackgroundTask(self._follow, name="supervisors: follow")
        self._sending = BackgroundTask(self._send, name="supervisors: send")

    async def close(self) -> None:
        """Stop; messages that were not sent are dropped."""
        await self._following.close()
        await self._sending.close()

    def on_event(self, event: Event, time: datetime) -> None:
        """Queue an event that was written, if anybody watches."""
        if event.FAMILY not in TOLD or not self._watchers():
            return
        self._put({"type": event.TYPE, "time": time, "data": event})

    def _put(self, message: dict[str, object]) -> None:
        payload = _encode(message)
        if len(payload) > MAX_BYTES:
            payload = _encode(
                {"type": message["type"], "time": message["time"], "omitted_bytes": len(payload)}
            )
        while self._queue and self._bytes + len(payload) > QUEUE_BYTES:
            self._bytes -= len(self._queue.popleft())
            self._dropped += 1
        self._queue.append(payload)
        self._bytes += len(payload)
        self._wake.set()

    def _watchers(self) -> list[str]:
        """Return the identities of those who get the messages."""
        seen = [p.identity for p in self._room.remote_participants.values() if may_watch(p)]
        return [*self._admitted, *(identity for identity in seen if identity not in self._admitted)]

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                payload = self._queue.popleft()
                self._bytes -= len(payload)
                if watchers := self._watchers():
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._room.local_participant.publish_data(
                            payload, topic=TOPIC, destination_identities=watchers
                        )
            if self._dropped:
                self._dropped, dropped = 0, self._dropped
                self._put({"type": "flow-events.dropped", "count": dropped})

    async def _follow(self) -> None:
        bus = await self._link.bus()
        subscription = await bus.subscribe(self._subject)
        try:
            await self._read()
            async for _, payload in subscription:
                if payload:
                    self._admit(payload)
                else:
                    await self._read()  # commands may have been missed
        finally:
            await subscription.close()

    async def _read(self) -> None:
        bus = await self._link.bus()
        async with asyncio.timeout(READ_SECONDS):
            async for incoming in bus.read(self._subject):
                self._admit(incoming.payload)

    def _admit(self, payload: bytes) -> None:
        try:
            found = admitted(open_event(decode(payload)))
        except ContractError:
            return  # a command of a newer version
        if found is not None and found[0] not in self._admitted:
            self._admitted.add(found[0])
            log.info("job.supervised", role=found[1])


def may_watch(participant: rtc.RemoteParticipant) -> bool:
    """Return whether the participant's token says so: a supervisor, not a caller."""
    if not participant.metadata or participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD:
        return False
    try:
        role = role_in(msgspec.json.decode(participant.metadata))
    except msgspec.DecodeError:
        return False
    return role is not None and not participant.permissions.can_update_metadata


def tell_supervisors(room: rtc.Room, recording: Recording, identity: Identity) -> FlowEvents:
    """Tell those who watch the session what is written from now on."""
    events = FlowEvents(room, recording.link, identity)
    recording.watch(events.on_event)
    return events
