"""Hear the heartbeats of all workers, through every outage of the broker."""

import structlog

from antiphon.chassis.bus import MISSED, Bus, BusUnavailable
from antiphon.contracts.workers import (
    ALL_WORKERS,
    InvalidHeartbeat,
    WorkerHeartbeat,
    decode_heartbeat,
    worker_subject,
)
from antiphon.fleet.workers import Workers

log = structlog.get_logger(__name__)


async def hear(bus: Bus, workers: Workers) -> None:
    """Hear heartbeats until cancelled. Raises BusUnavailable."""
    subscription = await bus.subscribe(ALL_WORKERS)
    try:
        workers.listening()
        invalid = 0
        async for announcement in subscription:
            if announcement is MISSED:
                workers.listening()
                continue
            subject, payload = announcement
            try:
                workers.hear(_beat_on(subject, payload))
            except InvalidHeartbeat as error:
                invalid += 1
                if invalid & (invalid - 1) == 0:  # the first, second, fourth, …: one each second is too much
                    log.warning("heartbeat.invalid", subject=subject, error=str(error), so_far=invalid)
    finally:
        await subscription.close()


def _beat_on(subject: str, payload: bytes) -> WorkerHeartbeat:
    beat = decode_heartbeat(payload)
    if subject != worker_subject(beat.worker):
        raise InvalidHeartbeat(f"it is of {beat.worker}")
    return beat


async def check_broker(bus: Bus) -> None:
    """Check that heartbeats can arrive; no stream is needed. Raises BusUnavailable."""
    if not bus.connection.connected.is_set():
        raise BusUnavailable("not connected to the broker")
    await bus.connection.round_trip()
