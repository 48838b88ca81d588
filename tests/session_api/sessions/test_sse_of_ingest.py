"""Streams of sessions whose events a real ingest commits, in its order, while they are read."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from tests.persistence.conftest import RunningIngest
from tests.session_api.conftest import Start

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentLeft
from antiphon.contracts.events.livekit import LiveKitParticipantLeft, LiveKitRoomFinished
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.subjects import partition_of

HEADERS = {"Authorization": "Bearer reader", "Accept": "text/event-stream"}
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)
LATE: tuple[Event, ...] = (
    LiveKitParticipantLeft(webhook_id="EV_1", room="r", payload={}),
    AgentLeft(
        job_id="AJ_1", epoch="AJ_1", reason="closed", fault=FaultSide.NONE, duration_seconds=1, turns=0
    ),
    LiveKitParticipantLeft(webhook_id="EV_2", room="r", payload={}),
    LiveKitRoomFinished(webhook_id="EV_3", room="r", payload={}),
)


@pytest.fixture
async def ingest(bus: Bus, database: Database) -> AsyncIterator[RunningIngest]:
    """Ingest loops that the test starts."""
    ingest = RunningIngest(bus, database)
    yield ingest
    await ingest.end()


async def test_events_that_ingest_commits_after_the_end_are_in_every_stream(
    bus: Bus, start: Start, session_id: str, ingest: RunningIngest
) -> None:
    api = await start()
    ingest.start(partition_of(session_id))
    url = f"{api.url}/v1/sessions/{session_id}/events"
    async with httpx.AsyncClient(headers=HEADERS, timeout=60) as client:
        before = [asyncio.create_task(_ids(client, url)) for _ in range(5)]
        await _publish(bus, session_id, 0, CLOSED)
        after: list[asyncio.Task[list[int]]] = []
        for number, event in enumerate(LATE, start=1):
            after.append(asyncio.create_task(_ids(client, url)))
            await asyncio.sleep(0.3)
            await _publish(bus, session_id, number, event)
        async with asyncio.timeout(60):
            received = await asyncio.gather(*before, *after)

        everything = list(range(1, 4 + len(LATE)))
        assert received == [everything] * len(received)
        assert await _ids(client, url) == everything
        assert await _ids(client, url, 4) == everything[4:]
        assert (await client.get(url, headers={"Last-Event-ID": str(everything[-1])})).status_code == 204
        beyond = await client.get(url, headers={"Last-Event-ID": str(everything[-1] + 1)})
        assert (beyond.status_code, beyond.json()["last_sequence"]) == (422, everything[-1])


async def _publish(bus: Bus, session_id: str, number: int, event: Event) -> None:
    envelope = seal(
        event,
        id=f"{session_id}:test:{number}",
        session_id=session_id,
        tenant="default",
        producer="test",
        producerseq=number,
        time=datetime.now(UTC),
    )
    await bus.publish(outgoing(envelope))


async def _ids(client: httpx.AsyncClient, url: str, after: int = 0) -> list[int]:
    async with client.stream("GET", url, params={"after": after}) as response:
        data = [line async for line in response.aiter_lines() if line.startswith("data: ")]
        return [json.loads(line.removeprefix("data: "))["sequence"] for line in data]
