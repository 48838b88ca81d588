"""Only the errors of an event's own handler use up its retries: no outage, no kill, no other process."""

import asyncio

import pytest
from tests.chassis.bus.consumers import dead_letters, publish, running, tool, until

from antiphon.chassis.bus import Bus, typed_consumer
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.tool import ToolStarted

RETRIES = (0.05, 0.05)


class Away(Exception):
    """The database is away."""


async def test_transient_errors_use_up_no_retries(bus: Bus, nats_server: NatsServer, name: str) -> None:
    calls: list[str] = []
    errors = [Away()] * 6 + [RuntimeError("deadlock")] + [Away()] * 3 + [RuntimeError("deadlock")]
    consumer = TypedConsumer(name, nats_server.url, retries=RETRIES, transient=(Away,))

    @consumer.on(ToolStarted)
    async def handle(_: ToolStarted, envelope: Envelope) -> None:
        calls.append(envelope.id)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]

    ids = await publish(bus, 2)
    async with running(consumer):
        await until(lambda: ids[1] in calls)
        await until(lambda: consumer.counts["tool.started", "handled"] == 2)
        assert await consumer.ready() == ""
    assert calls == [ids[0]] * 12 + [ids[1]]
    assert await dead_letters(bus, name) == []


async def test_outages_between_errors_do_not_hide_an_event_that_always_fails(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    calls: list[str] = []
    consumer = TypedConsumer(name, nats_server.url, retries=RETRIES, transient=(Away,))

    @consumer.on(ToolStarted)
    async def handle(event: ToolStarted, _: Envelope) -> None:
        calls.append(event.call_id)
        if event.call_id == "call-0":
            raise Away if len(calls) % 2 else RuntimeError

    await publish(bus, 2)
    async with running(consumer):
        await until(lambda: "call-1" in calls)
    assert calls == ["call-0"] * 6 + ["call-1"]
    assert len(await dead_letters(bus, name)) == 1


async def test_processes_that_were_killed_use_up_no_retries(
    bus: Bus, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has asked for the event and never answered."""
    ids = await publish(bus, 1)
    monkeypatch.setattr(typed_consumer, "ACK_WAIT_MARGIN_SECONDS", 1.0)
    for _ in range(len(RETRIES) + 1):
        killed = TypedConsumer(name, nats_server.url, retries=RETRIES, handler_seconds=0.1)
        begun = asyncio.Event()

        @killed.on(ToolStarted)
        async def never(_: ToolStarted, __: Envelope) -> None:
            task = asyncio.current_task()
            assert task is not None
            begun.set()  # noqa: B023
            task.cancel()
            await asyncio.sleep(0)

        async with running(killed), asyncio.timeout(60):
            await begun.wait()
    calls: list[str] = []
    monkeypatch.undo()
    consumer = TypedConsumer(name, nats_server.url, retries=RETRIES)

    @consumer.on(ToolStarted)
    async def handle(_: ToolStarted, envelope: Envelope) -> None:
        calls.append(envelope.id)
        if len(calls) == 1:
            raise RuntimeError("once")

    async with running(consumer):
        await until(lambda: consumer.counts["tool.started", "handled"] == 1)
    assert calls == [ids[0]] * 2
    assert ids == [tool(0).id]
    assert await dead_letters(bus, name) == []
