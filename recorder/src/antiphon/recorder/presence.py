"""Who else is in a session: agents that record it mark themselves in the room, and the last one closes it."""

import asyncio

from livekit import rtc

from antiphon.chassis.bus import Bus
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import decode
from antiphon.contracts.event import Family
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import event_subject

log = get_logger(__name__)

ATTRIBUTE = "antiphon.session"  # of an agent's participant: the session that it records
DEADLINE_SECONDS = 2.0
_NOT_CALLERS = frozenset(
    {
        rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
        rtc.ParticipantKind.PARTICIPANT_KIND_EGRESS,
        rtc.ParticipantKind.PARTICIPANT_KIND_INGRESS,
    }
)


async def mark(room: rtc.Room, session_id: str) -> None:
    """Mark the local participant as an agent that records a session."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await room.local_participant.set_attributes({ATTRIBUTE: session_id})
    except Exception as error:  # noqa: BLE001 - the room may be closing, and the agent may lack the permission
        log.warning("recorder.not_marked", extra={"session_id": session_id, "error": repr(error)})


def other_agents(room: rtc.Room, session_id: str) -> set[str]:
    """Return the identities of the other agents in the room that record the session."""
    return {
        participant.identity
        for participant in room.remote_participants.values()
        if participant.attributes.get(ATTRIBUTE) == session_id
    }


def has_caller(room: rtc.Room) -> bool:
    """Return whether someone whom an agent can talk to is in the room."""
    return any(participant.kind not in _NOT_CALLERS for participant in room.remote_participants.values())


async def agents_in(bus: Bus, tenant: str, session_id: str) -> set[str]:
    """Return the identities of the agents that joined a session and did not leave it, by its log.

    An agent that was killed is among them until its journal is adopted. Raises BusError.
    """
    agents: dict[str, str] = {}  # by epoch
    async for incoming in bus.read(event_subject(tenant, session_id, Family.AGENT)):
        envelope = decode(incoming.payload)
        if envelope.type not in (AgentJoined.TYPE, AgentLeft.TYPE):
            continue
        event = open_event(envelope)
        if isinstance(event, AgentJoined):
            agents[event.epoch] = event.identity
        elif isinstance(event, AgentLeft):
            agents.pop(event.epoch, None)
    return set(agents.values())
