"""`streams recreate --replace` takes no event from the typed consumers of others without being told to."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from tests.chassis.bus.consumers import publish, running, session, tool, until
from tests.persistence.streams.reading import ingest_all

from antiphon.chassis.bus import ApiError, Bus, StreamState, other_consumers, replace
from antiphon.chassis.bus.other_consumers import Behind
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.streams.recreate import Refused, recreate, render_recreated
from antiphon.persistence.streams.status import read_stream_status

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, RunningIngest

PARTITION = partition_of(session(0))


class Killed(Exception):
    """In place of a process that is killed."""


class Others:
    """A consumer that is started and stopped; each start is another process to it."""

    def __init__(self, name: str, server: NatsServer, start: str) -> None:
        self.seen: list[str] = []
        self.durable = f"{name}-{PARTITION}"
        self._name, self._server, self._start = name, server, start

    def process(self) -> TypedConsumer:
        consumer = TypedConsumer(self._name, self._server.url, start=self._start)

        @consumer.on(ToolStarted)
        async def handle(_: ToolStarted, envelope: Envelope) -> None:
            self.seen.append(envelope.id)

        return consumer

    async def handle(self, count: int) -> None:
        """Run until so many events were handled."""
        async with running(self.process()):
            await until(lambda: len(self.seen) == count)


@pytest.fixture(params=["beginning", "now"])
async def others(
    bus: Bus, nats_server: NatsServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Others]:
    monkeypatch.setattr(other_consumers, "CATCH_UP_SECONDS", 1.0)
    name = f"test-{uuid4().hex[:8]}"
    others = Others(name, nats_server, request.param)
    async with running(others.process()):  # its durables are made
        await publish(bus, 10)
        await until(lambda: len(others.seen) == 10)
    yield others
    with suppress(ApiError):
        await bus.connection.api(f"STREAM.DELETE.DEAD_{name}")


async def test_a_consumer_that_is_behind_is_named_and_nothing_is_changed(
    bus: Bus, database: Database, ingest: "RunningIngest", event_log: "LogReader", others: Others
) -> None:
    await publish(bus, 50, first=10)
    await ingest_all(ingest, event_log, PARTITION, 60)
    before = await bus.stream_state()

    with pytest.raises(Refused, match=rf"{others.durable}: 50 not delivered, 0 not.*(?s:.)*--drop-consumers"):
        await recreate(bus, database, replace_existing=True)

    assert await bus.stream_state() == before
    assert (await read_stream_status(bus, database)).problems == []
    await publish(bus, 5, first=60)
    await ingest_all(ingest, event_log, PARTITION, 65)
    await others.handle(65)
    assert others.seen == [tool(number).id for number in range(65)]


async def test_a_consumer_that_has_caught_up_goes_on_with_the_first_event_of_the_new_stream(
    bus: Bus, database: Database, ingest: "RunningIngest", event_log: "LogReader", others: Others
) -> None:
    await ingest_all(ingest, event_log, PARTITION, 10)

    result = await recreate(bus, database, replace_existing=True)
    await publish(bus, 30, first=10)  # while it is not running
    await ingest_all(ingest, event_log, PARTITION, 40)
    await others.handle(40)

    assert result.dropped == []
    assert others.seen == [tool(number).id for number in range(40)]
    await bus.verify()


async def test_the_loss_of_dropped_consumers_is_named(
    bus: Bus, database: Database, ingest: "RunningIngest", event_log: "LogReader", others: Others
) -> None:
    await publish(bus, 50, first=10)
    await ingest_all(ingest, event_log, PARTITION, 60)

    result = await recreate(bus, database, replace_existing=True, drop_consumers=True)

    assert result.dropped == [Behind(others.durable, 50, 0)]
    assert f"{others.durable}: 50 not delivered, 0 not acknowledged" in render_recreated(result)
    names = {info["name"] for info in await other_consumers._durables(bus.connection)}
    assert others.durable not in names
    assert len(names & {f"{others.durable.rpartition('-')[0]}-{number}" for number in range(16)}) == 15


async def test_an_event_that_came_last_reopens_the_stream_that_was_closed(
    bus: Bus,
    database: Database,
    ingest: "RunningIngest",
    event_log: "LogReader",
    others: Others,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ingest_all(ingest, event_log, PARTITION, 10)
    close = replace.close_intake

    async def late(*arguments: Any) -> None:
        await publish(bus, 1, first=10)
        await close(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(replace, "close_intake", late)
        with pytest.raises(Refused, match=f"{others.durable}: 1 not delivered"):
            await recreate(bus, database, replace_existing=True)

    assert not replace.in_progress(await _state(bus))
    await bus.verify()
    await publish(bus, 1, first=11)
    await ingest_all(ingest, event_log, PARTITION, 12)
    await others.handle(12)
    assert others.seen == [tool(number).id for number in range(12)]


@pytest.mark.parametrize("step", ["create_closed", "refill", "open_intake"])
async def test_an_interrupted_run_forgets_no_consumer(
    step: str,
    bus: Bus,
    database: Database,
    ingest: "RunningIngest",
    event_log: "LogReader",
    others: Others,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ingest_all(ingest, event_log, PARTITION, 10)

    async def crash(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(replace, step, crash)
        for _ in range(3):
            with pytest.raises(Killed):
                await recreate(bus, database, replace_existing=True)
    await recreate(bus, database, replace_existing=False)
    await publish(bus, 5, first=10)
    await others.handle(15)

    assert others.seen == [tool(number).id for number in range(15)]


async def _state(bus: Bus) -> StreamState:
    state = await bus.stream_state()
    assert state is not None
    return state
