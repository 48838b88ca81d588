"""Which jobs are recorded: those of this deployment, for sessions that have not ended."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from livekit.agents import JobContext
from livekit.protocol.models import Room

from antiphon.chassis.bus import Bus, BusError, envelope_of
from antiphon.chassis.deployment import stored_deployment
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Family
from antiphon.contracts.remade_room import is_remade, room_created_at
from antiphon.contracts.session import Session, fold
from antiphon.contracts.subjects import event_subject
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

log = get_logger(__name__)

ASK_SECONDS = 1.0  # the agent waits for it
DELETE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job is not recorded. A room that was made again after its session's end is to be closed."""

    reason: str
    close_room: bool = False


async def refusal_of(link: BusLink, identity: Identity, room: Room) -> Refusal | None:
    """Return why a job in a room must not be recorded; None too if the broker does not answer."""
    if not link.enabled or (identity.deployment is None and room.name != identity.session_id):
        return None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await _refusal(await link.reachable_bus(), identity, room)
    except Exception as error:  # noqa: BLE001 - a recorder ends no job without a reason
        log.warning(
            "recorder.admission_unknown", extra={"session_id": identity.session_id, "error": repr(error)}
        )
        return None


async def _refusal(bus: Bus, identity: Identity, room: Room) -> Refusal | None:
    if identity.deployment is not None:
        own = await own_deployment(bus)
        if own is not None and own != identity.deployment:
            return Refusal(f"the job is of the deployment {identity.deployment}, and this is {own}")
    if room.name != identity.session_id:
        return None
    created_at = room_created_at(seconds=room.creation_time, milliseconds=room.creation_time_ms)
    envelopes = await _events(bus, identity.tenant, identity.session_id, (Family.SESSION,))
    if is_remade(envelopes, room_sid=room.sid, created_at=created_at):
        return Refusal("the session has ended", close_room=True)
    return None


async def own_deployment(bus: Bus) -> str | None:
    """Return the id of the broker's deployment, or None if it has none, or does not answer."""
    try:
        found = await stored_deployment(bus)
    except BusError:  # a broker of an earlier version, or one that does not let recorders read it
        return None
    return None if found is None else found.id


async def session_on(
    bus: Bus, tenant: str, session_id: str, families: Sequence[Family] = (Family.SESSION,)
) -> Session:
    """Return the session folded from its events of these families. Raises BusError."""
    return fold(session_id, tenant, await _events(bus, tenant, session_id, families))


async def _events(bus: Bus, tenant: str, session_id: str, families: Sequence[Family]) -> list[Envelope]:
    subjects = [event_subject(tenant, session_id, family) for family in families]
    return [
        envelope
        for subject in subjects
        async for incoming in bus.read(subject)
        if (envelope := envelope_of(incoming)) is not None
    ]


class SessionEnded(Exception):
    """The job is in the room of a session that has ended, and cannot connect to it."""


async def refuse(ctx: JobContext, session_id: str, refusal: Refusal) -> None:
    """Log the refusal. Close a room that was made again after its session's end, and end its job.

    `ctx.connect` raises SessionEnded then: LiveKit would make the room once more for the agent.
    """
    log.warning("recorder.refused", extra={"session_id": session_id, "reason": refusal.reason})
    if not refusal.close_room:
        return

    async def connect(*_: object, **__: object) -> None:
        raise SessionEnded(f"the session {session_id} has ended: see `refused` of its recording")

    async def close_again() -> None:
        await delete_room(ctx)  # an agent that connected by other means has made it again

    vars(ctx)["connect"] = connect
    ctx.add_shutdown_callback(close_again)
    await delete_room(ctx)
    ctx.shutdown(refusal.reason)


async def delete_room(ctx: JobContext) -> None:
    """Delete the room of a job, within five seconds; an error is only logged."""
    try:
        async with asyncio.timeout(DELETE_SECONDS):
            await ctx.delete_room(ctx.job.room.name)
    except Exception as error:  # noqa: BLE001 - LiveKit closes the room when the caller leaves
        log.warning("recorder.room_not_deleted", extra={"job": ctx.job.id, "error": repr(error)})
