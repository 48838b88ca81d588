"""A projection: a view of the event log, declared by its tables and one function per event type."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from antiphon.chassis.personal_data import shown
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.event import Event
from antiphon.contracts.registry import EVENTS, open_event
from antiphon.persistence.projection.cache import NotLoaded
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projection.skipped import SkippedEvents
from antiphon.persistence.projection.tables import ViewTable

REST_SECONDS = 0.05

Handler = Callable[[Any, Envelope, Rows], None]  # the event, its envelope, and the rows to change
AnyHandler = Callable[[Envelope, Rows], None]
Opened = tuple[Callable[..., None], tuple[Any, ...]]  # a function, and its arguments without the rows
H = TypeVar("H", bound=Handler)
A = TypeVar("A", bound=AnyHandler)


class EventFailed(Exception):
    """A function of a projection raised; `envelope` is the event that it was called with."""

    def __init__(self, envelope: Envelope, error: Exception) -> None:
        event = f"{envelope.type} {envelope.id} (sequence {envelope.sequence} of {envelope.subject})"
        super().__init__(f"{event}: {shown(error)}")
        self.envelope = envelope


class Projection:
    """A view of the event log: its tables, and the functions that fold events into their rows.

    Raise `version` with each change of the tables or the functions: the view is then built again beside the
    live one, as it is when one of its events gets a newer version, which the code of before skipped.
    Events arrive in order within each session, and each once; those of other sessions in any order. After a
    batch that is not half full the view rests, and events that arrive meanwhile share the next transaction:
    a longer rest costs less, and shows events later.
    """

    def __init__(
        self, name: str, *tables: ViewTable, version: int = 1, rest_seconds: float = REST_SECONDS
    ) -> None:
        self.name = name
        self._version = version
        self.tables = tables
        self.rest_seconds = rest_seconds
        self._events: list[type[Event]] = []
        self._handlers: dict[str, Handler] = {}
        self._any: AnyHandler | None = None
        self._skipped = SkippedEvents(name)

    @property
    def version(self) -> int:
        """The version of the declaration, and one for each newer version of an event that it handles."""
        events = self._events if self._any is None else EVENTS
        return self._version + sum(event.VERSION - 1 for event in events)

    def on(self, *events: type[Event]) -> Callable[[H], H]:
        """Register a function for events of these types."""

        def register(handler: H) -> H:
            for event in events:
                if event.TYPE in self._handlers:
                    raise ValueError(f"{self.name} has two functions for {event.TYPE}")
                self._handlers[event.TYPE] = handler
                self._events.append(event)
            return handler

        return register

    def on_any(self, handler: A) -> A:
        """Register the function for all events, also those that cannot be read: it gets the envelope only."""
        self._any = handler
        return handler

    @property
    def handlers(self) -> dict[str, Handler | AnyHandler]:
        """The functions by event type; `*` is that for all events."""
        return {**self._handlers, **({} if self._any is None else {"*": self._any})}

    @property
    def types(self) -> Collection[str] | None:
        """The event types that the view is made of; None for all."""
        return None if self._any is not None else frozenset(self._handlers)

    def opened(self, envelopes: Sequence[Envelope]) -> list[Opened]:
        """Decode the events that the view handles; those that cannot be read are skipped, and logged."""
        if (handler := self._any) is not None:
            return [(handler, (envelope,)) for envelope in envelopes]
        opened: list[Opened] = []
        for envelope in envelopes:
            if (one := self._handlers.get(envelope.type)) is None:
                continue
            try:
                opened.append((one, (open_event(envelope), envelope)))
            except ContractError:  # an event of a newer version, or from before its type was known
                self._skipped.add(envelope)
        return opened

    def fold(self, opened: Sequence[Opened], rows: Rows) -> None:
        """Fold events into rows, which then has the rows that must be read first, if there are any.

        Raises EventFailed.
        """
        for handler, arguments in opened:
            try:
                handler(*arguments, rows)
            except NotLoaded:
                continue
            except Exception as error:
                raise EventFailed(arguments[-1], error) from error
        if not rows.missing:
            self._skipped.log()

    def skip(self, envelope: Envelope) -> None:
        """Count an event that a function could not read; it is logged."""
        self._skipped.add(envelope)
