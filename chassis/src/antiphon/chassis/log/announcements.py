"""Hear what is announced about a session; where something may have been missed, ask to look at the log."""

import asyncio
from collections.abc import AsyncGenerator
from functools import lru_cache

import msgspec
import structlog

from antiphon.chassis.bus import MISSED, Announcement, Bus, BusUnavailable, Subscription
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import committed_subject

log = structlog.get_logger(__name__)

Announced = tuple[Envelope, ...]
RETRY_SECONDS = 1.0
LOOK: Announced = ()  # an empty announcement: look at the log

_decoder = msgspec.json.Decoder(Announced)


@lru_cache(maxsize=1024)
def decode(payload: bytes) -> Announced:
    """Decode an announcement once for all who follow the session in this process.

    Raises msgspec.DecodeError.
    """
    return _decoder.decode(payload)


async def announcements(
    bus: Bus, tenant: str, session_id: str, safety_look_seconds: float
) -> AsyncGenerator[Announced, None]:
    """Yield what is announced, for ever, and LOOK at first, after a gap, and after a silence."""
    subject = committed_subject(tenant, session_id)
    while True:
        try:
            listening = await bus.subscribe(subject)
        except BusUnavailable:
            yield LOOK  # the log can be read without the bus
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            yield LOOK  # what was committed before we listened
            while True:
                yield await _next(listening, safety_look_seconds)
        finally:
            await listening.close()


async def _next(listening: Subscription, safety_look_seconds: float) -> Announced:
    heard = await listening.next(safety_look_seconds)
    if heard is None or heard is MISSED:
        return LOOK
    return _decoded(heard)


def _decoded(heard: Announcement) -> Announced:
    try:
        return decode(heard[1])
    except msgspec.DecodeError as error:
        log.warning("announcement.malformed", subject=heard[0], error=str(error))
        return LOOK
