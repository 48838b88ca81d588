"""What the tests of typed consumers share: events to publish, and a consumer that runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.contracts.envelope import Envelope, seal
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.subjects import event_subject, partition_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEADLINE_SECONDS = 60


def session(number: int) -> str:
    """Return a session's id."""
    return f"ses_{number:026d}"


def sessions_of(partition: int, count: int) -> list[str]:
    """Return sessions of one partition."""
    found = (session(number) for number in range(10_000) if partition_of(session(number)) == partition)
    return [next(found) for _ in range(count)]


def tool(number: int, session_id: str = session(0)) -> Envelope:
    """Return the n-th event of a session."""
    event = ToolStarted(call_id=f"call-{number}", name="look_up", arguments="{}")
    return seal(
        event,
        id=f"{session_id}:{number}",
        session_id=session_id,
        tenant="default",
        producer="test",
        producerseq=number,
        time=NOW,
    )


def raw(payload: bytes, message_id: str, session_id: str = session(0)) -> Outgoing:
    """Return a message with any payload on the subject of an event."""
    return Outgoing(event_subject("default", session_id, "tool"), payload, message_id)


async def publish(bus: Bus, count: int, session_id: str = session(0), first: int = 0) -> list[str]:
    """Publish events of a session and return their ids."""
    envelopes = [tool(number, session_id) for number in range(first, first + count)]
    await bus.publish_many([outgoing(envelope) for envelope in envelopes])
    return [envelope.id for envelope in envelopes]


@asynccontextmanager
async def running(consumer: TypedConsumer) -> AsyncIterator[None]:
    """Run a consumer."""
    await consumer.broker.start()
    try:
        yield
    finally:
        await consumer.broker.stop()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.01)


async def dead_letters(bus: Bus, name: str) -> list[dict[str, Any]]:
    """Return the stored dead letters of a consumer, as the server's API shows them."""
    state = (await bus.connection.api(f"STREAM.INFO.DEAD_{name}"))["state"]
    return [
        (await bus.connection.api(f"STREAM.MSG.GET.DEAD_{name}", {"seq": number}))["message"]
        for number in range(1, state["last_seq"] + 1)
    ]
