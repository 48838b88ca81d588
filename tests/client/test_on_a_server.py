"""The clients on a real session-api, behind a network that cuts connections, and through restarts."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from tests.client.conftest import Network
from tests.session_api.conftest import Running, Start
from tests.session_api.fake_livekit import FakeLiveKit
from tests.session_api.fake_persistence import FakePersistence

from antiphon.chassis.database import Database
from antiphon.client import (
    Antiphon,
    AsyncAntiphon,
    AuthenticationError,
    Gone,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ServerUnavailable,
    SessionEvent,
)
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.events.turn import TurnSaved

SECONDS = 60.0


def states(count: int) -> list[AgentStateChanged]:
    return [AgentStateChanged(old_state="listening", new_state="speaking")] * count


CLOSED = SessionClosed(reason=CloseReason.AGENT_ENDED, fault=FaultSide.NONE, duration_seconds=1.0, turns=0)

Commit = Callable[[str], Awaitable[int]]


@pytest.fixture
async def session_id(client: AsyncAntiphon) -> str:
    """A session that was just created."""
    return (await client.sessions.create(flow_id="booking", user_id="ada")).session_id


async def collect(client: AsyncAntiphon, session_id: str, after: int = 0) -> list[SessionEvent]:
    async with asyncio.timeout(SECONDS):
        return [event async for event in client.sessions.stream(session_id, after=after)]


def assert_whole(events: list[SessionEvent], count: int) -> None:
    assert [event.sequence for event in events] == list(range(1, count + 1))


async def test_a_session_from_its_request_to_its_end(
    client: AsyncAntiphon, persistence: FakePersistence
) -> None:
    created = await client.sessions.create(
        flow_id="booking", user_id="ada", metadata={"order": "A-17"}, language="en"
    )
    assert created.token
    token = await client.sessions.token(created.session_id, identity="ada")
    assert token.identity == "ada"
    await persistence.commit(created.session_id, *states(3), CLOSED)

    session = await client.sessions.get(created.session_id)
    assert (session.status, session.ended, session.metadata) == ("closed", True, {"order": "A-17"})
    assert [turn async for turn in client.sessions.turns(created.session_id)] == []
    events = [event async for event in client.sessions.events(created.session_id, page_size=2)]
    assert events == await collect(client, created.session_id)
    assert isinstance(events[-1].body, SessionClosed)
    assert [event.sequence for event in await collect(client, created.session_id, after=4)] == [5, 6]
    assert [flow.flow_id async for flow in client.flows.list()] == ["booking"]


async def test_a_session_as_it_was(
    client: AsyncAntiphon, running: Running, persistence: FakePersistence, session_id: str
) -> None:
    saved = [TurnSaved(turn=n, epoch="AJ_1", agent_id="host", user_text=f"text {n}") for n in (1, 2, 3)]
    committed = await persistence.commit(session_id, *saved, CLOSED)
    assert len(committed) == 6

    past = await client.sessions.get(session_id, at=4)
    assert (past.sequence, past.status, past.turns) == (4, "active", 2)
    assert past == await client.sessions.get(session_id, at_time=committed[3].time)
    turns = [turn.user_text async for turn in client.sessions.turns(session_id, at=4, page_size=1)]
    assert turns == ["text 1", "text 2"]
    time = committed[3].time.isoformat()
    assert [turn.turn async for turn in client.sessions.turns(session_id, at_time=time, page_size=1)] == [
        1,
        2,
    ]

    with pytest.raises(InvalidRequest, match="states after its events 1 to 6") as refused:
        await client.sessions.get(session_id, at=7)
    assert refused.value.problem.members["last_sequence"] == 6

    def sync() -> None:
        with Antiphon(running.url, "writer") as blocking:
            assert blocking.sessions.get(session_id, at=4) == past
            assert [turn.turn for turn in blocking.sessions.turns(session_id, at=4)] == [1, 2]

    await asyncio.to_thread(sync)


async def test_the_past_of_an_erased_session_is_gone(
    client: AsyncAntiphon, persistence: FakePersistence, session_id: str, database: Database
) -> None:
    await persistence.catch_up(session_id)
    await database.pool.execute("select erase_session($1)", session_id)

    with pytest.raises(Gone, match="erased"):
        await client.sessions.get(session_id, at=1)


async def test_lists_page_and_filter(client: AsyncAntiphon, persistence: FakePersistence) -> None:
    made = []
    for number in range(7):
        created = await client.sessions.create(flow_id="booking", user_id=f"user-{number % 2}")
        await persistence.catch_up(created.session_id)
        made.append(created.session_id)

    async def ids(**wanted: object) -> list[str]:
        return [one.session_id async for one in client.sessions.list(**wanted)]  # type: ignore[arg-type]

    assert await ids(page_size=2) == made[::-1]
    assert await ids(limit=3, page_size=2) == made[:3:-1]
    assert await ids(user_id="user-1", page_size=2) == made[-2::-2]
    assert await ids(status=["closed", "failed"]) == []
    assert await ids(room=made[3]) == [made[3]]


async def test_the_same_key_creates_one_session(client: AsyncAntiphon, livekit: FakeLiveKit) -> None:
    first, second = [
        await client.sessions.create(flow_id="booking", user_id="ada", idempotency_key="order-17")
        for _ in range(2)
    ]

    assert first.session_id == second.session_id
    assert (first.replayed, second.replayed) == (False, True)


async def test_a_create_whose_answer_is_lost_creates_one_session(
    network: Network, client: AsyncAntiphon, persistence: FakePersistence
) -> None:
    network.answers = [0, 40]  # the connection ends before the answer, then in the middle of it

    created = await client.sessions.create(flow_id="booking", user_id="ada")
    await persistence.catch_up(created.session_id)

    assert created.replayed
    assert network.connections == 3
    assert [one.session_id async for one in client.sessions.list()] == [created.session_id]


async def test_each_event_comes_once_through_a_network_that_cuts(
    network: Network, client: AsyncAntiphon, persistence: FakePersistence, session_id: str
) -> None:
    network.answers = [10, 300, 1_100, 0, 2_500, 900, 5_000]
    following = asyncio.create_task(collect(client, session_id))
    for _ in range(10):
        await persistence.commit(session_id, *states(5))
        await asyncio.sleep(0.3)
    await persistence.commit(session_id, CLOSED)

    assert_whole(await following, 53)
    assert network.answers == []


async def test_the_client_that_blocks_resumes_too(
    network: Network, blocking: Callable[[], Antiphon], persistence: FakePersistence
) -> None:
    def create() -> str:
        with blocking() as client:
            return client.sessions.create(flow_id="booking", user_id="ada").session_id

    def follow() -> list[SessionEvent]:
        with blocking() as client:
            assert client.sessions.get(created).user_id == "ada"
            return list(client.sessions.stream(created))

    created = await asyncio.to_thread(create)
    await persistence.commit(created, *states(20))
    network.answers = [100_000, 700, 3_000, 5_000]
    following = asyncio.create_task(asyncio.to_thread(follow))
    await asyncio.sleep(0.5)
    await persistence.commit(created, *states(2), CLOSED)
    async with asyncio.timeout(SECONDS):
        events = await following

    assert_whole(events, 25)


async def test_a_stream_survives_a_restart_of_the_server(
    network: Network,
    client: AsyncAntiphon,
    persistence: FakePersistence,
    session_id: str,
    running: Running,
    start: Start,
) -> None:
    await persistence.commit(session_id, *states(3))
    seen: list[SessionEvent] = []
    events = client.sessions.stream(session_id)

    async def take(last: int) -> None:
        while not seen or seen[-1].sequence < last:
            seen.append(await anext(events))

    async with asyncio.timeout(SECONDS), aclosing(events):
        await take(5)
        network.target_port = 1  # nothing listens while it restarts
        running.stop.set()
        await persistence.commit(session_id, *states(4))
        following = asyncio.create_task(take(9))
        await asyncio.sleep(1.5)
        network.target_port = int((await start()).url.rpartition(":")[2])
        await following
        await persistence.commit(session_id, *states(1), CLOSED)
        seen += [event async for event in events]

    assert_whole(seen, 11)


async def test_a_silent_connection_is_replaced(
    network: Network,
    client: AsyncAntiphon,
    persistence: FakePersistence,
    session_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("antiphon.client.async_client.WATCHDOG_SECONDS", 1.0)
    following = asyncio.create_task(collect(client, session_id))
    await asyncio.sleep(2.5)  # the server sends a heartbeat every 15 s: the watchdog ends connections
    await persistence.commit(session_id, *states(2), CLOSED)

    assert_whole(await following, 5)
    assert network.connections > 2


async def test_an_outage_of_livekit_is_an_error_with_its_problem(
    client: AsyncAntiphon, livekit: FakeLiveKit
) -> None:
    livekit.status = 500
    with pytest.raises(ServerUnavailable) as failed:
        await client.sessions.create(flow_id="booking", user_id="ada", timeout=2.0)

    assert failed.value.problem.kind == "livekit-unavailable"
    assert failed.value.detail


async def test_refusals_are_exceptions(running: Running, client: AsyncAntiphon, session_id: str) -> None:
    with pytest.raises(NotFound) as unknown:
        await client.sessions.create(flow_id="no-such-flow", user_id="ada")
    assert unknown.value.problem.kind == "unknown-flow"
    with pytest.raises(InvalidRequest) as invalid:
        await client.sessions.create(flow_id="booking", user_id="")
    assert [error.field for error in invalid.value.errors] == ["user_id"]
    with pytest.raises(NotFound):
        await client.sessions.get("ses_unknown")
    with pytest.raises(NotFound):
        await anext(client.sessions.stream("ses_00000000000000000000000000"))
    async with AsyncAntiphon(running.url, "nobody") as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.sessions.get(session_id)
        with pytest.raises(AuthenticationError):
            await anext(stranger.sessions.stream(session_id))
    async with AsyncAntiphon(running.url, "reader") as reader:
        with pytest.raises(PermissionDenied):
            await reader.sessions.create(flow_id="booking", user_id="ada")


async def test_times_are_sent_in_a_form_that_the_server_reads(
    client: AsyncAntiphon, persistence: FakePersistence, session_id: str
) -> None:
    await persistence.catch_up(session_id)
    now = datetime.now(UTC)

    assert [one async for one in client.sessions.list(created_after=now)] == []
    assert len([one async for one in client.sessions.list(created_before=now)]) == 1
