"""What session-api says on the log: its events, sealed and published."""

from collections.abc import Callable
from datetime import datetime

from antiphon.chassis.bus import Bus, GroupCommit, Outgoing, SubjectNotEmpty, outgoing
from antiphon.chassis.tracing import current_traceparent
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.ids import requested_id
from antiphon.contracts.subjects import session_filter

PRODUCER = "session-api"


class Producer:
    """Publish session-api's events; concurrent requests share the broker's fsyncs."""

    def __init__(self, bus: Bus, clock: Callable[[], datetime], *, timeout_seconds: float) -> None:
        self._bus = bus
        self._group = GroupCommit(bus, timeout_seconds=timeout_seconds)
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def publish(
        self, tenant: str, session_id: str, event: Event, *, event_id: str, number: int
    ) -> None:
        """Put an event on the session's log; saying it again with the same id changes nothing.

        Raises BusUnavailable.
        """
        await self._group.publish(self._seal(tenant, session_id, event, event_id, number))

    async def publish_first(self, tenant: str, session_id: str, event: Event) -> bool:
        """Put `event` on the log as the session's first; return False when the log had begun already.

        Raises BusUnavailable.
        """
        out = self._seal(tenant, session_id, event, requested_id(session_id), 0)
        beginning = session_filter(tenant, session_id)
        try:
            ack = await self._bus.publish(out, expect_empty=beginning, timeout_seconds=self._timeout_seconds)
        except SubjectNotEmpty:
            return False
        return not ack.duplicate

    def _seal(self, tenant: str, session_id: str, event: Event, event_id: str, number: int) -> Outgoing:
        envelope = seal(
            event,
            id=event_id,
            session_id=session_id,
            tenant=tenant,
            producer=PRODUCER,
            producerseq=number,
            time=self._clock(),
            traceparent=current_traceparent(),
        )
        return outgoing(envelope)
