"""A log that tests write to directly, as ingest commits: in order within each partition, then announced."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import SessionDispatched, SessionRequested
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id, requested_id
from antiphon.contracts.subjects import committed_subject, partition_of

INSERT = """
insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
    occurred_at, envelope, committed_at)
select session_id, sequence, partition, position, tenant, event_id, type, 1, occurred_at, envelope::json,
    clock_timestamp()
from unnest($1::text[], $2::int[], $3::smallint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[], $9::text[])
    as fresh (session_id, sequence, partition, position, tenant, event_id, type, occurred_at, envelope)
"""
TURN = TurnSaved(turn=1, agent_id="host", user_text="a table", assistant_text="Gladly.")
READY = AgentReady(greeting="Good evening.", ready_ms=640.0)
DISPATCHED = SessionDispatched(attempt=1, room_sid="RM_1", agent_name="antiphon")
TOOL = ToolStarted(call_id="c", name="book", arguments="{}")
KINDS: tuple[Event, ...] = (TURN, READY, DISPATCHED, TOOL)


def requested(flow_id: str) -> SessionRequested:
    return SessionRequested(flow_id=flow_id, flow_revision=1, user_id="ada", room="r")


@dataclass
class LogWriter:
    """A writer of the event log; `log` is all that it committed, in order."""

    bus: Bus
    database: Database
    log: list[Envelope] = field(default_factory=list)
    flows: dict[str, str] = field(default_factory=dict)
    announces: bool = True
    _sequences: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _position: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def session(self, name: str, tenant: str = "default") -> str:
        return named_session_id(tenant, name)

    async def commit(self, session_id: str, *events: Event, tenant: str = "default") -> list[Envelope]:
        """Commit events of one session."""
        return await self.commit_all([(session_id, event) for event in events], tenant=tenant)

    async def commit_all(
        self, events: Iterable[tuple[str, Event]], tenant: str = "default"
    ) -> list[Envelope]:
        """Commit events of sessions in one transaction, and announce them."""
        async with self._lock:
            fresh = [self._next(session_id, event, tenant) for session_id, event in events]
            rows = [
                (
                    e.subject,
                    e.sequence,
                    partition_of(e.subject),
                    e.position,
                    e.tenant,
                    e.id,
                    e.type,
                    e.time,
                    encode(
                        msgspec.structs.replace(e, sequence=msgspec.UNSET, position=msgspec.UNSET)
                    ).decode(),
                )
                for e in fresh
            ]
            await self.database.pool.execute(INSERT, *zip(*rows, strict=True))
            self.log += fresh
        by_session: dict[str, list[Envelope]] = defaultdict(list)
        for envelope in fresh:
            by_session[envelope.subject].append(envelope)
        if self.announces:
            for session_id, envelopes in by_session.items():
                with suppress(BusUnavailable):
                    payload = msgspec.json.encode(envelopes)
                    await self.bus.announce(committed_subject(tenant, session_id), payload)
        return fresh

    def _next(self, session_id: str, event: Event, tenant: str) -> Envelope:
        self._position += 1
        sequence = self._sequences[session_id] = self._sequences[session_id] + 1
        event_id = f"{session_id}:test:{sequence}"
        if isinstance(event, SessionRequested):
            self.flows[session_id] = event.flow_id
            event_id = requested_id(session_id)
        envelope = seal(
            event,
            id=event_id,
            session_id=session_id,
            tenant=tenant,
            producer="test",
            producerseq=sequence,
            time=datetime.now(UTC),
        )
        return committed(envelope, sequence, self._position)


@pytest.fixture
def writer(bus: Bus, database: Database) -> LogWriter:
    """A writer of the event log."""
    return LogWriter(bus, database)


class Received(NamedTuple):
    """One event of a stream: its id, and its envelope as JSON's objects."""

    id: str
    event: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        return self.event["subject"], self.event["sequence"]


class Stream:
    """An open stream of /v1/events; `last_id` is what an EventSource would resume after."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id = ""
        self.comments = 0

    async def next(self) -> Received | None:
        """Return the next event, or None for a block without one."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                self.last_id = fields.get("id", self.last_id)
                if "data" not in fields:
                    return None
                return Received(self.last_id, json.loads(fields["data"]))
        raise StopAsyncIteration

    async def take(self, count: int) -> list[Received]:
        """Return the next events."""
        found: list[Received] = []
        async with asyncio.timeout(60):
            while len(found) < count:
                if (received := await self.next()) is not None:
                    found.append(received)
        return found

    async def end(self) -> None:
        """Read to the end of the stream."""
        with suppress(StopAsyncIteration):
            async with asyncio.timeout(60):
                while True:
                    await self.next()

    async def until(self, keys: set[tuple[str, int]]) -> list[Received]:
        """Return the next events until all of these have come."""
        found: list[Received] = []
        left = set(keys)
        async with asyncio.timeout(60):
            while left:
                if (received := await self.next()) is not None:
                    found.append(received)
                    left.discard(received.key)
        return found


@asynccontextmanager
async def streaming(
    url: str, key: str = "reader", *, last_event_id: str | None = None, **params: Any
) -> AsyncIterator[Stream]:
    """Open a stream and read its first block."""
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, verify=False) as client,
        client.stream("GET", "/v1/events", params=params, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        assert await stream.next() is None
        yield stream


def keys_of(envelopes: Iterable[Envelope]) -> list[tuple[str, int]]:
    return [(envelope.subject, int(envelope.sequence or 0)) for envelope in envelopes]


def assert_each_once_in_order(
    received: Iterable[tuple[str, int]], expected: Iterable[tuple[str, int]]
) -> None:
    """Require each expected event exactly once, and those of each session in order."""
    received = list(received)
    assert sorted(received) == sorted(expected)
    last: dict[str, int] = {}
    for session_id, sequence in received:
        assert sequence > last.get(session_id, 0), f"{session_id}: {sequence} after {last[session_id]}"
        last[session_id] = sequence
