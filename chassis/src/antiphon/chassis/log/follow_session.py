"""Follow one session: an announcement that continues is taken as it is, anything else sends us to the log."""

from contextlib import aclosing

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log.announcements import Announced, announcements
from antiphon.chassis.log.patience import Patience
from antiphon.chassis.log.reading import Envelopes, read_session, sequence_of

PAGE = 500
SAFETY_LOOK_SECONDS = 5.0


async def follow_session(database: Database, bus: Bus, tenant: str, session_id: str, after: int) -> Envelopes:
    """Iterate over a session's events (see Log.follow_session)."""
    sequence = after
    # Listening starts before the history is read, so nothing can fall between the two.
    async with aclosing(announcements(bus, tenant, session_id, SAFETY_LOOK_SECONDS)) as heard:
        async for announced in heard:
            if _continues(announced, sequence):
                for envelope in announced:
                    if sequence_of(envelope) > sequence:
                        yield envelope
                        sequence = sequence_of(envelope)
                continue
            async with aclosing(_history(database, tenant, session_id, sequence)) as history:
                async for envelope in history:
                    yield envelope
                    sequence = sequence_of(envelope)


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


def _continues(announced: Announced, sequence: int) -> bool:
    """Say whether an announcement follows on, overlaps included, with no hole before or within it."""
    expected = sequence + 1
    for envelope in announced:
        number = sequence_of(envelope)
        if number == 0 or number > expected:
            return False
        expected = max(expected, number + 1)
    return bool(announced)
