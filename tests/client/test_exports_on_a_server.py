"""An export through a network that fails: the log, each event once, and a client that goes on by itself."""

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.client.conftest import Network
from tests.session_api.feed.conftest import (
    KINDS,
    TURN,
    LogWriter,
    assert_each_once_in_order,
    keys_of,
    requested,
    writer,
)

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.client import Antiphon, AsyncAntiphon, ExportedBatch, InvalidRequest, SessionEvent
from antiphon.session_api.feed import export as export_module

__all__ = ["writer"]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a control line after a few events, so that there are many places to be cut at."""
    monkeypatch.setattr(export_module, "STEP", 16)


@pytest.fixture
async def written(writer: LogWriter) -> LogWriter:
    """A log of 8 sessions with 30 events each."""
    sessions = [writer.session(f"s{number}") for number in range(8)]
    await writer.commit_all([(each, requested("booking")) for each in sessions])
    for number in range(29):
        await writer.commit_all([(each, KINDS[number % len(KINDS)]) for each in sessions])
    return writer


def keys(events: list[SessionEvent]) -> list[tuple[str, int]]:
    return [(event.session_id, event.sequence) for event in events]


async def test_cuts_lose_and_repeat_nothing(
    written: LogWriter, client: AsyncAntiphon, network: Network
) -> None:
    chance = random.Random(7)
    network.answers += [chance.randrange(600, 4_000) for _ in range(12)]

    async with asyncio.timeout(120):
        events = [event async for event in client.export_events()]

    assert network.connections > 5
    assert_each_once_in_order(keys(events), keys_of(written.log))


async def test_it_ends_where_it_ended_when_it_began(
    written: LogWriter, client: AsyncAntiphon, network: Network
) -> None:
    before = keys_of(written.log)
    network.answers.append(4_000)
    events: list[SessionEvent] = []

    async for event in client.export_events():
        if not events:
            await written.commit(written.session("late"), TURN)
        events.append(event)

    assert network.connections > 1
    assert_each_once_in_order(keys(events), before)


async def test_another_process_goes_on_after_a_batch(written: LogWriter, client: AsyncAntiphon) -> None:
    first: list[ExportedBatch] = []
    async for batch in client.export_batches(types=["turn.saved", "agent.ready"]):
        first.append(batch)
        if len(first) == 4:
            break

    rest = [
        event
        async for event in client.export_events(
            types=["turn.saved", "agent.ready"], after=first[-1].cursor, until=first[-1].until
        )
    ]

    events = [event for batch in first for event in batch.events]
    wanted = keys_of(e for e in written.log if e.type in ("turn.saved", "agent.ready"))
    assert events
    assert rest
    assert_each_once_in_order(keys(events + rest), wanted)


async def test_the_blocking_client_does_the_same(
    written: LogWriter, network: Network, blocking: Callable[[], Antiphon]
) -> None:
    network.answers += [900, 2_500, 4_000]

    def export() -> list[SessionEvent]:
        with blocking() as client:
            return list(client.export_events(flow_id="booking", without_pii=True))

    async with asyncio.timeout(120):
        events = await asyncio.to_thread(export)

    assert_each_once_in_order(keys(events), keys_of(written.log))
    turns = [event for event in events if event.type == "turn.saved"]
    assert all("user_text" not in turn.data for turn in turns)
    assert all(turn.data["agent_id"] == "host" for turn in turns)


async def test_a_server_that_stops_is_asked_again(
    written: LogWriter, client: AsyncAntiphon, network: Network
) -> None:
    target, network.target_port = network.target_port, 1

    async def come_back() -> None:
        await asyncio.sleep(1)
        network.target_port = target

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(come_back())
        events = [event async for event in client.export_events()]

    assert_each_once_in_order(keys(events), keys_of(written.log))


async def test_a_refusal_is_raised(client: AsyncAntiphon, bus: Bus, database: Database) -> None:
    with pytest.raises(InvalidRequest, match="did you mean"):
        _ = [event async for event in client.export_events(types="turn.save")]
    with pytest.raises(InvalidRequest, match="is not a cursor"):
        _ = [event async for event in client.export_events(after="nothing")]
