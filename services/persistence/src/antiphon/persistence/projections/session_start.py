"""The day and the flow that a session counts for: those of its start, however long it lasts."""

from collections.abc import Mapping

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.views import indexed, utc_day
from antiphon.persistence.projection import Row


def begin(row: Row, event: object, envelope: Envelope) -> Row:
    """Set tenant, day (UTC) and flow of a session's row at the first event that its view counts.

    `flow_id` is empty for a session without a flow, or that nobody requested.
    """
    if row.get("day") is None:
        flow_id = event.flow_id if isinstance(event, SessionRequested) else ""
        row.update(tenant=envelope.tenant, day=utc_day(envelope.time), flow_id=indexed(flow_id))
    return row


def added(counts: Mapping[str, int], name: str) -> dict[str, int]:
    """Return counts by name with one more, in the order of the names: the same for any order of events."""
    return dict(sorted({**counts, name: counts.get(name, 0) + 1}.items()))
