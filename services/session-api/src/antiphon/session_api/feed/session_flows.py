"""The flows of sessions, by the log: only `session.requested`, the first event of a session, has the flow.

Not by the view of sessions, which may show a session after its first events are read here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from antiphon.chassis.database import Database, translate_errors
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.ids import requested_id
from antiphon.contracts.views import indexed
from antiphon.session_api.feed.filters import EventFilter, Filtered

MAX_BYTES = 4 << 20  # of the flows that are cached
ENTRY_BYTES = 256  # of one, with its session's id

READ_AT_ONCE = 200  # requests: their metadata may be large

# Whole: to Postgres, a NUL in any text of it is an error when it looks inside.
REQUESTS = """
select session_id, envelope::text
from unnest($2::text[], $3::text[]) as wanted (session_id, event_id)
join event_log using (session_id, event_id)
where tenant = $1
"""

# Nobody has checked the body of a version that this code does not know.
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class _Requested(Struct):
    flow_id: Any = None


E = TypeVar("E", bound=Filtered)

_requested = msgspec.json.Decoder(_Requested)


class SessionFlows:
    """The flows of sessions, read from the log once and cached, bounded in bytes; None is no flow."""

    def __init__(self, database: Database, max_bytes: int = MAX_BYTES) -> None:
        self.bytes = 0
        self._database = database
        self._max_bytes = max_bytes
        self._known: dict[str, str | None] = {}

    def learn(self, envelopes: Iterable[Envelope]) -> None:
        """Take the flows of new sessions from these events, which saves reading them again."""
        for envelope in envelopes:
            if envelope.type == SessionRequested.TYPE:
                self._keep(envelope.subject, _flow_of(envelope))

    async def passing(self, tenant: str, wanted: EventFilter, events: Sequence[E]) -> Sequence[E]:
        """Return those of a tenant's committed events that pass the filter.

        Raises DatabaseUnavailable.
        """
        if wanted.everything:
            return events
        found = [event for event in events if wanted.takes(event)]
        if wanted.flow_id is None or not found:
            return found
        flows = await self._of(tenant, {event.subject for event in found})
        return [event for event in found if flows[event.subject] == wanted.flow_id]

    async def _of(self, tenant: str, session_ids: set[str]) -> Mapping[str, str | None]:
        flows = {session_id: self._known[session_id] for session_id in session_ids & self._known.keys()}
        if unknown := sorted(session_ids - flows.keys()):
            flows |= dict.fromkeys(unknown)
            for start in range(0, len(unknown), READ_AT_ONCE):
                flows |= await self._read(tenant, unknown[start : start + READ_AT_ONCE])
        return flows

    async def _read(self, tenant: str, session_ids: Sequence[str]) -> Mapping[str, str | None]:
        events = [requested_id(session_id) for session_id in session_ids]
        with translate_errors():
            rows = await self._database.pool.fetch(REQUESTS, tenant, session_ids, events)
        # A session without a request is not kept: the request may come yet.
        flows = {row["session_id"]: _flow_of(decode(row["envelope"])) for row in rows}
        for session_id, flow in flows.items():
            self._keep(session_id, flow)
        return flows

    def _keep(self, session_id: str, flow: str | None) -> None:
        self._forget(session_id)
        self.bytes += ENTRY_BYTES + len(flow or "")
        self._known[session_id] = flow
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._known)))

    def _forget(self, session_id: str) -> None:
        if session_id in self._known:
            self.bytes -= ENTRY_BYTES + len(self._known.pop(session_id) or "")


def _flow_of(requested: Envelope) -> str | None:
    try:
        return _shown(_requested.decode(requested.data).flow_id)
    except UNREADABLE:
        return None


def _shown(flow: object) -> str | None:
    """Return the id as filters have it; agents without a flow have an empty one."""
    return indexed(flow) if isinstance(flow, str) and flow else None
