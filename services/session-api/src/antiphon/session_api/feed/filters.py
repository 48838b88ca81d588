"""Which events of a tenant a request wants: its query parameters, and the filter that they make."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Annotated, Protocol

from fastapi import Query
from msgspec import Struct
from pydantic import AfterValidator, Field

from antiphon.contracts.event import Family
from antiphon.contracts.ids import SESSION_ID_PATTERN
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.subjects import partition_of
from antiphon.session_api.problems import invalid
from antiphon.session_api.sessions.schemas import StoredName

TYPES = tuple(event.TYPE for event in EVENTS)
FAMILIES = tuple(family.value for family in Family)
MAX_GUESSED = 64  # characters of a name that is compared with the known ones


def _known(name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        close = get_close_matches(name[:MAX_GUESSED], known, n=1)
        guess = f"did you mean {close[0]}? It " if close else ""
        raise ValueError(f"{guess}takes one of {', '.join(known)}")
    return name


def _known_type(name: str) -> str:
    return _known(name, TYPES)


def _known_family(name: str) -> str:
    return _known(name, FAMILIES)


_Type = Annotated[str, AfterValidator(_known_type), Field(json_schema_extra={"enum": list(TYPES)})]
_Family = Annotated[str, AfterValidator(_known_family), Field(json_schema_extra={"enum": list(FAMILIES)})]

Types = Annotated[
    list[_Type] | None, Query(alias="type", description="the type of the event; may be repeated: any of them")
]
Families = Annotated[
    list[_Family] | None,
    Query(alias="family", description="the family of its type; may be repeated: any of them"),
]
OfSession = Annotated[
    str | None, Query(pattern=SESSION_ID_PATTERN, description="only the events of this session")
]
OfFlow = Annotated[
    StoredName | None,
    Query(description="only the events of sessions that were requested with this flow"),
]


class Filtered(Protocol):
    """What a filter sees of an event."""

    @property
    def type(self) -> str:
        """Its type."""

    @property
    def subject(self) -> str:
        """The id of its session."""


class EventFilter(Struct, frozen=True):
    """What the events of a tenant must have; all must hold, None is anything."""

    types: frozenset[str] | None = None
    session_id: str | None = None
    flow_id: str | None = None

    @property
    def partitions(self) -> Collection[int] | None:
        """The partitions that can hold such events; None is all of them."""
        return None if self.session_id is None else (partition_of(self.session_id),)

    @property
    def everything(self) -> bool:
        """Whether every event passes."""
        return self.types is None and self.session_id is None and self.flow_id is None

    def takes(self, event: Filtered) -> bool:
        """Return whether an event passes, its flow aside, which only `SessionFlows` knows."""
        return (self.types is None or event.type in self.types) and (
            self.session_id is None or event.subject == self.session_id
        )


def event_filter(
    types: Iterable[str] | None, families: Iterable[str] | None, session_id: str | None, flow_id: str | None
) -> EventFilter:
    """Return the filter of the parameters above.

    Raises Problem 422 for types that are of none of the families.
    """
    wanted = None if types is None else frozenset(types)
    if families is not None:
        of_families = frozenset(families)
        members = frozenset(event.TYPE for event in EVENTS if event.FAMILY in of_families)
        if wanted is not None and not wanted & members:
            named = ", ".join(sorted(of_families))
            message = f"is of no family {named}, so no event can have both: leave one of the two out"
            raise invalid("type", "query", message, "not_together")
        wanted = members if wanted is None else wanted & members
    return EventFilter(wanted, session_id, flow_id)
