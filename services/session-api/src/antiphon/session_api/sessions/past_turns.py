"""A page of a session's turns as they were, folded from its events in bounded memory."""

from collections import defaultdict

import msgspec

from antiphon.chassis.log import sequence_of
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import TERMINAL_TYPES, Session, evolve
from antiphon.contracts.turns import TURN_TYPES, TurnKey, turn_after, turn_key, unfinished
from antiphon.contracts.views import TurnView
from antiphon.session_api.pagination import PAGE_BYTES
from antiphon.session_api.sessions.bounded import Listed

_encode = msgspec.json.Encoder().encode


class PastTurns:
    """The first turns that began after a sequence: at most `limit`, and about PAGE_BYTES, but always one.

    Events are added in order, from the first on: of the turns that began before, only the keys are kept, and
    of those after the page nothing.
    """

    def __init__(self, session_id: str, tenant: str, after: int, limit: int) -> None:
        self.bytes = 0  # of the events that the rows show
        self._after = after
        self._limit = limit
        self._session = Session(session_id=session_id, tenant=tenant)  # only its end
        self._before: defaultdict[str, set[int]] = defaultdict(set)  # numbers of turns, by epoch
        self._rows: dict[TurnKey, TurnView] = {}  # in the order in which they began
        self._sizes: dict[TurnKey, int] = {}
        self._more = False

    def add(self, envelope: Envelope) -> None:
        """Add the session's next event; one that cannot be read is skipped, as in the view."""
        if envelope.type in TERMINAL_TYPES:
            self._session = evolve(self._session, envelope)
        if envelope.type not in TURN_TYPES:
            return
        try:
            event = open_event(envelope)
        except ContractError:
            return
        key = turn_key(event, envelope)
        if key is None or not self._is_of_the_page(key, envelope):
            return
        known = self._rows.get(key)
        row = turn_after(known, event, envelope)
        if row is None or row is known:
            return
        self._rows[key] = row
        self.bytes += len(envelope.data) - self._sizes.get(key, 0)
        self._sizes[key] = len(envelope.data)
        while len(self._rows) > self._limit or (self.bytes > PAGE_BYTES and len(self._rows) > 1):
            last, _ = self._rows.popitem()
            self.bytes -= self._sizes.pop(last)
            self._more = True

    def _is_of_the_page(self, key: TurnKey, envelope: Envelope) -> bool:
        if key in self._rows:
            return True
        if sequence_of(envelope) <= self._after:
            self._before[key.epoch].add(key.turn)
            return False
        return not self._more and key.turn not in self._before.get(key.epoch, ())

    def listed(self) -> Listed[tuple[int, bytes]]:
        """Return the turns, each with the sequence of its begin and as JSON; and whether there are more."""
        rows = self._rows.values()
        shown = map(unfinished, rows) if self._session.ended else rows
        return Listed([(row.first_sequence, _encode(row)) for row in shown], self._more)
