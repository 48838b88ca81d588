"""Events of many sessions, on the stream: what persistence has to do."""

import asyncio
from datetime import UTC, datetime

from antiphon.chassis.bus import Bus, outgoing
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import agent_event_id, named_session_id

SESSIONS = 64  # in all partitions
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def publish_events(nats_url: str, count: int, *, after: int = 0) -> None:
    """Publish so many events after the first, spread over all partitions, and wait until they are stored."""

    async def publish() -> None:
        bus = await Bus.connect(nats_url, name="backlog")
        try:
            await bus.publish_many([outgoing(_event(number)) for number in range(after, after + count)])
        finally:
            await bus.close()

    asyncio.run(publish())


def _event(number: int) -> Envelope:
    session = named_session_id("default", f"backlog {number % SESSIONS}")
    turn = number // SESSIONS + 1
    return seal(
        TurnSaved(turn=turn, agent_id="host", user_text="a table for two", assistant_text="Gladly."),
        id=agent_event_id(session, "AJ_test", turn),
        session_id=session,
        tenant="default",
        producer="test",
        producerseq=turn,
        time=START,
    )
