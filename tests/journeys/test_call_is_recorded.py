"""A whole call: the agent understands the caller and replies, and every event is recorded."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack
from antiphon.client import AsyncAntiphon
from antiphon.contracts.envelope import decode
from antiphon.contracts.session import Session, fold
from antiphon.contracts.views import session_json

DIALOGUE = {
    "i would like to book a table for two": "A table for two. Which day, and at what time?",
    "tomorrow at seven": "A table for two, tomorrow at seven. Shall I book it?",
    "yes please": "Your table is booked.",
    "may i speak to the manager": "One moment please, I will get the manager.",
}
GREETING = "Good evening, this is the table desk. How can I help you?"
READ_LOG = "select envelope, sequence, position from event_log where session_id = $1 order by sequence"
UNCLEAR = "(unclear)"
MAX_UNCLEAR_TURNS = 1
AUDIBLE = 100  # root mean square of 16-bit sound; silence is below 5


def of_type(events: list[Json], kind: str) -> list[Json]:
    return [event for event in events if event["type"] == kind]


async def test_call_is_recorded(
    stack: EmbeddedStack, api: SessionApi, to_the_end: Callable[[str], Awaitable[list[Json]]]
) -> None:
    created = await api.create("booking", "ada")
    session = created["session_id"]
    streamed = asyncio.ensure_future(to_the_end(session))

    caller = Caller(created["livekit_url"], created["token"])
    async with caller:
        clock = asyncio.get_running_loop().time
        joined = clock()
        await caller.wait_until_ready(timeout_seconds=40)
        greeted = clock()
        replies = {line: [a.text for a in await caller.say_until_understood(line)] for line in DIALOGUE}
        replied = clock()

    assert [line.text for line in caller.own_lines if line.text != UNCLEAR] == list(DIALOGUE)
    for line, reply in DIALOGUE.items():
        assert replies[line][0].startswith(reply)
    assert caller.audio.loudness(since=joined, until=greeted) > AUDIBLE
    assert caller.audio.loudness(since=greeted, until=replied) > AUDIBLE

    events = await streamed
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events == [event async for event in api.events(session)][: len(events)]

    saved = [event["data"] for event in of_type(events, "turn.saved")]
    assert [turn["turn"] for turn in saved] == list(range(1, len(saved) + 1))
    # on a busy machine audio can be lost; the caller repeats a sentence that was not understood
    turns = [turn for turn in saved if turn["user_text"] != UNCLEAR]
    assert len(saved) <= len(turns) + MAX_UNCLEAR_TURNS
    assert [turn["user_text"] for turn in turns] == list(DIALOGUE)
    assert all(t["assistant_text"].startswith(a) for t, a in zip(turns, DIALOGUE.values(), strict=True))
    assert not any(turn["interrupted"] for turn in turns)
    assert all(turn["metrics"]["e2e_latency"] > 0 for turn in turns)
    shown = [turn async for turn in api.turns(session)]
    assert [turn["user_text"] for turn in shown] == [turn["user_text"] for turn in saved]

    tools = [event["data"]["name"] for event in of_type(events, "tool.started")]
    assert tools == ["book_table", "hand_off_to_manager"]  # the model makes a hand-off as a tool call
    started, completed = of_type(events, "tool.started")[0], of_type(events, "tool.completed")[0]
    assert completed["data"]["name"] == "book_table"
    assert completed["data"]["status"] == "done"
    assert started["data"]["call_id"] in turns[2]["tool_call_ids"]
    hand_offs = [
        (e["data"]["from_agent"], e["data"]["to_agent"]) for e in of_type(events, "agent.handed_off")
    ]
    assert hand_offs[-1] == ("host", "manager")

    kinds = {event["type"] for event in events}
    assert kinds >= {
        "session.requested", "session.dispatched", "agent.joined", "agent.ready", "agent_state_changed",
        "user_state_changed", "user_input_transcribed", "participant_connected", "track_subscribed",
        "usage.updated", "livekit.room_started", "livekit.participant_joined",
    }  # fmt: skip
    assert of_type(events, "agent.ready")[0]["data"]["greeting"] == GREETING
    closed = events[-1]
    assert closed["type"] == "session.closed"
    assert closed["data"]["reason"] == "caller_left"
    assert closed["data"]["turns"] == len(saved)
    assert closed["data"]["usage"]

    assert await caught_up_view(stack, session) == folded(await complete_log(stack, session))
    assert (await api.session(session))["status"] == "closed"
    await assert_the_views_have_the_call(stack, session, len(saved))


async def assert_the_views_have_the_call(stack: EmbeddedStack, session: str, turns: int) -> None:
    """Check what the views of analytics say of a call, once they have its end."""
    where = stack.status().addresses
    async with AsyncAntiphon(where.api_url, where.api_key) as client, asyncio.timeout(60):
        while True:
            items = [item async for item in client.sessions.timeline(session)]
            days = [day async for day in client.analytics.daily(flow_id="booking")]
            if days and days[0].ended and items and all(item.ended_at for item in items):
                break
            await asyncio.sleep(0.2)
        day = days[0]
        used = [usage async for usage in client.analytics.usage(flow_id="booking")]

    assert {"session", "participant", "caller", "agent", "tool", "media"} <= {item.lane for item in items}
    assert [item.title for item in items if item.lane == "session"] == [
        "Session",
        "Dispatched at attempt 1",
        "Session closed: caller_left",
    ]
    answers = [item for item in items if item.title.startswith("Turn") and item.lane == "agent"]
    assert len(answers) == turns
    assert all(item.ended_at is not None and item.ended_at > item.started_at for item in answers)
    assert day.turns >= turns
    assert day.response_ms.count > 0
    assert day.ready_ms.p50 is not None
    assert {usage.kind for usage in used} >= {"llm", "stt", "tts"}
    tools = await query(stack, "select * from tools where session_id = $1 order by started_at", session)
    assert [(tool["name"], tool["status"]) for tool in tools] == [
        ("book_table", "done"),
        ("hand_off_to_manager", "done"),
    ]
    assert all(tool["turn"] for tool in tools)
    participants = await query(stack, "select * from participants where session_id = $1", session)
    assert "caller" in {participant["identity"] for participant in participants}


def folded(envelopes: list[str]) -> Session:
    decoded = [decode(envelope) for envelope in envelopes]
    return fold(decoded[0].subject, decoded[0].tenant, decoded)


async def complete_log(stack: EmbeddedStack, session: str) -> list[str]:
    """Return a session's log after `room_finished`, which arrives after the terminal event."""
    async with asyncio.timeout(40):
        while True:
            rows = await query(stack, READ_LOG, session)
            if any('"livekit.room_finished"' in row["envelope"] for row in rows):
                return [as_committed(row) for row in rows]
            await asyncio.sleep(0.2)


def as_committed(row: asyncpg.Record) -> str:
    envelope = msgspec.json.decode(row["envelope"])
    return msgspec.json.encode(envelope | {"sequence": row["sequence"], "position": row["position"]}).decode()


async def caught_up_view(stack: EmbeddedStack, session: str) -> Session:
    """Return the session from the view once it has caught up with the log."""
    last = len(await complete_log(stack, session))
    async with asyncio.timeout(60):
        while True:
            (row,) = await query(stack, "select * from sessions where session_id = $1", session)
            state = msgspec.json.decode(session_json(row), type=Session)
            if state.sequence >= last:
                return state
            await asyncio.sleep(0.05)


async def query(stack: EmbeddedStack, statement: str, session: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.status().addresses.postgres_dsn)
    try:
        return list(await connection.fetch(statement, session))
    finally:
        await connection.close()
