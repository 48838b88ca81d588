"""Follow one session: an announcement that continues is taken as it is, anything else sends us to the log."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import lru_cache

import msgspec
import structlog

from chassis.bus import GAP, Bus, Heard, Listening
from chassis.database import Database, DatabaseUnavailable
from chassis.log.patience import Patience
from chassis.log.reading import Envelopes, read_session, sequence_of
from contracts.envelope import Envelope
from contracts.subjects import committed_subject

log = structlog.get_logger(__name__)

PAGE = 500
SAFETY_LOOK_SECONDS = 5.0

_announcement = msgspec.json.Decoder(tuple[Envelope, ...])


@lru_cache(maxsize=1024)
def decode_announcement(payload: bytes) -> tuple[Envelope, ...]:
    """Decode an announcement once for all who follow the session in this process.

    Raises msgspec.DecodeError.
    """
    return _announcement.decode(payload)


async def follow_session(database: Database, bus: Bus, tenant: str, session_id: str, after: int) -> Envelopes:
    """Iterate over a session's events (see Log.follow_session)."""
    # Listening starts before the history is read, so nothing can fall between the two.
    listening = await bus.listen(committed_subject(tenant, session_id))
    sequence = after
    try:
        async with aclosing(_announcements(listening)) as announcements:
            look = True
            while True:
                if look:
                    async with aclosing(_history(database, tenant, session_id, sequence)) as history:
                        async for envelope in history:
                            yield envelope
                            sequence = sequence_of(envelope)
                announced = await anext(announcements)
                look = announced is None or not _continues(announced, sequence)
                if announced is not None and not look:
                    for envelope in announced:
                        if sequence_of(envelope) > sequence:
                            yield envelope
                            sequence = sequence_of(envelope)
    finally:
        await listening.close()


async def _history(database: Database, tenant: str, session_id: str, after: int) -> Envelopes:
    patience = Patience("follow_session")
    while True:
        try:
            page = await read_session(database, tenant, session_id, after, PAGE)
        except DatabaseUnavailable as error:
            await patience.wait(error)
            continue
        patience.reset()
        for envelope in page:
            yield envelope
            after = sequence_of(envelope)
        if len(page) < PAGE:
            return


async def _announcements(listening: Listening) -> AsyncGenerator[tuple[Envelope, ...] | None, None]:
    """Yield announcements, and None whenever the log must be looked at."""
    heard = aiter(listening)
    pending: asyncio.Task[Heard] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(heard))
            done, _ = await asyncio.wait({pending}, timeout=SAFETY_LOOK_SECONDS)
            if not done:
                yield None
                continue
            item, pending = pending.result(), None
            yield None if item is GAP else _decoded(item)
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


def _decoded(item: Heard) -> tuple[Envelope, ...] | None:
    try:
        return decode_announcement(item[1])
    except msgspec.DecodeError as error:
        log.warning("announcement.malformed", subject=item[0], error=str(error))
        return None


def _continues(announced: tuple[Envelope, ...], sequence: int) -> bool:
    """Say whether an announcement follows on, overlaps included, with no hole before or within it."""
    expected = sequence + 1
    for envelope in announced:
        number = sequence_of(envelope)
        if number > expected or number == 0:
            return False
        expected = max(expected, number + 1)
    return True
