"""A session as it was after one of its events: replayed from the log, by the folds that make the views."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from antiphon.chassis.database import DatabaseUnavailable
from antiphon.chassis.log import Log
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.session import Session, evolve
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.bounded import Listed
from antiphon.session_api.sessions.events import EventReader
from antiphon.session_api.sessions.lookup import unknown_session
from antiphon.session_api.sessions.past_turns import PastTurns
from antiphon.session_api.sessions.queries import LogRange, Views

PAGE = 500  # events


class Moment(Struct, frozen=True):
    """A point in a session's history: after the event with this sequence.

    `fixed` is False for a time that no event has passed yet: a later event can still belong before it.
    """

    sequence: int
    fixed: bool = True


class History:
    """The past states of a tenant's sessions; those of other tenants are unknown.

    Every method raises Problem 404, Problem 410 for a session whose events were erased, and
    DatabaseUnavailable.
    """

    def __init__(self, views: Views, reader: EventReader, log: Log) -> None:
        self._views = views
        self._reader = reader
        self._log = log

    async def moment(self, tenant: str, session_id: str, at: int | datetime) -> Moment:
        """Return the moment after the event with a sequence, or the last one whose state is not after a time.

        A state is after a time when one of its events is: when its `updated_at` is.
        Raises Problem 422 for a sequence or time that the history does not have, BusUnavailable.
        """
        time = at if isinstance(at, datetime) else None
        known = await self._views.log_range(tenant, session_id, time)
        if known.erased_at is not None:
            raise erased(session_id, known.erased_at)
        if known.last is None or known.first_time is None:
            if not await self._reader.exists(tenant, session_id):
                raise unknown_session(session_id)
            raise outside(session_id, known)
        if isinstance(at, int):
            if not 1 <= at <= known.last:
                raise outside(session_id, known)
            return Moment(at)
        if known.later == 1:
            raise before(session_id, known.first_time)
        return Moment(known.last, fixed=False) if known.later is None else Moment(known.later - 1)

    async def session(self, tenant: str, session_id: str, sequence: int) -> Session:
        """Return the session after the event with a sequence that is committed."""
        state = Session(session_id=session_id, tenant=tenant)
        async for envelopes in self._replayed(tenant, session_id, sequence):
            for envelope in envelopes:
                state = evolve(state, envelope)
        return state

    async def turns(
        self, tenant: str, session_id: str, sequence: int, after: int, limit: int
    ) -> Listed[tuple[int, bytes]]:
        """Return the turns after the event with a sequence that is committed, in order.

        They began after the sequence `after`, each is with the sequence at which it began, as JSON; they are
        fewer than `limit` if they are large.
        """
        turns = PastTurns(session_id, tenant, after, limit)
        async for envelopes in self._replayed(tenant, session_id, sequence):
            for envelope in envelopes:
                turns.add(envelope)
        return turns.listed()

    async def _replayed(
        self, tenant: str, session_id: str, sequence: int
    ) -> AsyncIterator[Sequence[Envelope]]:
        """Yield the session's events up to a sequence, in pages of bounded size."""
        after, limit = 0, PAGE
        while after < sequence:
            wanted = min(limit, sequence - after)
            found = (await self._log.read_page(tenant, session_id, after=after, limit=wanted)).envelopes
            if not found:
                await self.moment(tenant, session_id, sequence)  # raises: they were erased meanwhile
                raise DatabaseUnavailable(f"events of {session_id} are gone that were on record")
            yield found
            after += len(found)
            # Postgres measures all rows that it may return: of large events, ask for as many as fit
            limit = PAGE if len(found) == wanted else max(1, 2 * len(found))


def outside(session_id: str, known: LogRange) -> Problem:
    """Return the problem for a sequence that is not one of the session's events, or not yet."""
    last = known.last or 0
    detail = (
        f"The session has the states after its events 1 to {last}."
        if last
        else "No event of the session is committed yet; try again in a moment."
    )
    return Problem(
        422, "outside-history", detail, session_id=session_id, first_sequence=1, last_sequence=last
    )


def before(session_id: str, first_time: datetime) -> Problem:
    """Return the problem for a time before the first event."""
    text = first_time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    detail = f"The session's first event is of {text}: pass that time, or a later one."
    return Problem(422, "outside-history", detail, session_id=session_id, first_time=text)


def erased(session_id: str, at: datetime) -> Problem:
    """Return the problem for a session whose events were erased: no past state can be computed."""
    text = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return Problem(
        410,
        "history-erased",
        "The events of this session were erased, and with them its past states.",
        session_id=session_id,
        erased_at=text,
    )
