"""The views participants, tools, usage, daily and timeline: given events, their rows; in any batches."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import (
    AgentJoined,
    AgentLeft,
    AgentLost,
    AgentReady,
    AgentStateChanged,
)
from antiphon.contracts.events.participant import (
    ParticipantConnected,
    ParticipantDisconnected,
)
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.ids import agent_event_id
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections.counting import MAX_RANGES, with_number, with_value
from antiphon.persistence.projections.daily import DAILY
from antiphon.persistence.projections.participants import PARTICIPANTS
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.projections.tools import TOOLS
from antiphon.persistence.projections.usage import USAGE

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession
    from tests.persistence.projections.conftest import View

NEW = (PARTICIPANTS, TOOLS, USAGE, DAILY, TIMELINE)
JOINED = ParticipantConnected(identity="caller", sid="PA_1", kind="STANDARD")
LEFT = ParticipantDisconnected(identity="caller", sid="PA_1", kind="STANDARD", reason="CLIENT_INITIATED")
SAVED = TurnSaved(turn=1, epoch="AJ_1", agent_id="host", metrics={"e2e_latency": 0.5})
FAILED = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=2)
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=90.5, turns=1)


def of(session: "SampleSession", *events: Event, job: str = "AJ_1") -> list[Envelope]:
    """Seal events of an agent job."""
    sealed = [session.seal(event) for event in events]
    return [
        replace(e, id=agent_event_id(session.session_id, job, n))
        for n, e in enumerate(sealed, session.sealed)
    ]


def model(name: str, **counts: Any) -> ModelUsage:
    return ModelUsage(kind="llm", provider="openai", model=name, **counts)


async def test_a_tool_call_runs_until_it_completes(view: "View", new_session: "NewSession") -> None:
    session = new_session("tools")
    started = ToolStarted(call_id="c1", name="find_table", arguments='{"seats": 2}')
    await view(TOOLS).given(first := of(session, started, replace(started, call_id="c2")))
    assert [row["status"] for row in await view.rows("tools")] == ["running", "running"]

    done = ToolCompleted(call_id="c1", name="find_table", status="done", output="19:00", duration_seconds=0.5)
    done = replace(done, personal=True)
    alone = ToolCompleted(call_id="c3", name="pay", status="error", output="refused")
    saved = replace(SAVED, turn=4, tool_call_ids=["c1", "unknown"])
    await view(TOOLS).given(second := of(session, done, alone, saved))
    [one, two, three] = await view.rows("tools")
    assert one == {
        "session_id": session.session_id,
        "call_id": "c1",
        "tenant": "default",
        "epoch": "AJ_1",
        "name": "find_table",
        "status": "done",
        "turn": 4,
        "started_at": first[0].time,
        "completed_at": second[0].time,
        "duration_seconds": 0.5,
        "arguments": '{"seats": 2}',
        "output": "19:00",
        "personal": True,
    }
    assert [two["personal"], three["personal"]] == [False, False]
    assert (two["status"], two["turn"], three["status"], three["started_at"]) == (
        "running",
        None,
        "error",
        None,
    )


async def test_usage_is_cumulative_in_a_job_and_added_over_jobs(
    view: "View", new_session: "NewSession"
) -> None:
    session = new_session("two jobs")
    joined = AgentJoined(job_id="AJ_1", worker_id="AW", epoch="AJ_1", identity="agent")
    left = AgentLeft(
        job_id="AJ_1",
        epoch="AJ_1",
        reason="replaced",
        fault=FaultSide.NONE,
        duration_seconds=1,
        turns=1,
        usage=[model("large", input_tokens=130, requests=3), model("large", input_tokens=20, requests=1)],
    )
    first = of(
        session,
        SessionRequested(flow_id="booking", flow_revision=1, user_id="u", room="r"),
        joined,
        UsageUpdated(models=[model("large", input_tokens=100, requests=2, audio_seconds=1.5)]),
        UsageUpdated(models=[model("large", input_tokens=130, requests=3, audio_seconds=2.5)]),
        left,
    )
    second = of(
        session,
        replace(joined, job_id="AJ_2", epoch="AJ_2"),
        UsageUpdated(models=[model("large", input_tokens=7, requests=1), model("small", characters=9)]),
        job="AJ_2",
    )
    end = [session.seal(replace(CLOSED, usage=[model("large", input_tokens=8, requests=2)]))]
    await view(USAGE).given([*first, *second, *end])

    rows = await view.rows("usage", order="epoch, model")
    assert [
        (row["epoch"], row["model"], row["input_tokens"], row["requests"], row["audio_seconds"])
        for row in rows
    ] == [("AJ_1", "large", 150, 4, 2.5), ("AJ_2", "large", 8, 2, 0.0), ("AJ_2", "small", 0, 0, 0.0)]
    assert {(row["tenant"], row["day"], row["flow_id"]) for row in rows} == {
        ("default", date(2026, 1, 2), "booking")
    }


async def daily(view: "View") -> list[dict[str, Any]]:
    rows = await view.rows("daily", order="day, flow_id, partition")
    for row in rows:
        for name in ("outcomes", "faults", "response_ms", "ready_ms"):
            row[name] = json.loads(row[name])
    return rows


async def test_a_day_counts_each_call_and_turn_once(view: "View", new_session: "NewSession") -> None:
    session = new_session("a day")
    requested = SessionRequested(flow_id="booking", flow_revision=1, user_id="u", room="r")
    failed = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1)
    saved = [
        SAVED,
        replace(SAVED, turn=3, interrupted=True, metrics={}),
        replace(SAVED, recovered=True),
        replace(SAVED, turn=2, metrics={"e2e_latency": 0.5}),
        replace(SAVED, epoch="AJ_2"),
    ]
    ready = AgentReady(greeting="", ready_ms=250.0)
    log = of(session, requested, ready, *saved, ready, CLOSED, failed, replace(SAVED, turn=4))
    # the next day counts for the session's first one
    log[-1] = replace(log[-1], time=log[-1].time + timedelta(days=1))
    await view(DAILY).given(log)

    [row] = await daily(view)
    sketch, ready_ms = row.pop("response_ms"), row.pop("ready_ms")
    assert row == {
        "tenant": "default",
        "day": date(2026, 1, 2),
        "flow_id": "booking",
        "partition": session.partition,
        "calls": 1,
        "ended": 1,
        "failed": 0,
        "duration_ms": 90_500,
        "turns": 5,
        "interruptions": 1,
        "outcomes": {"caller_left": 1},
        "faults": {"none": 1},
    }
    assert (sum(sketch.values()), len(sketch), sum(ready_ms.values())) == (4, 1, 1)


async def test_sessions_without_a_request_or_a_flow_have_no_flow(
    view: "View", new_session: "NewSession"
) -> None:
    failed = SessionFailed(reason=FailureReason.DISPATCH_FAILED, attempts=3)
    await view(DAILY).given(of(new_session("no request"), failed))
    await view(DAILY).given(
        of(new_session("no flow"), SessionRequested(flow_id="", flow_revision=0, user_id="u", room="r"))
    )

    rows = await daily(view)
    assert sum(row["calls"] for row in rows) == 2
    assert {row["flow_id"] for row in rows} == {""}
    assert sum(row["failed"] for row in rows) == sum(row["ended"] for row in rows) == 1


@pytest.mark.parametrize(
    "value", ["null", "true", '"0.5"', "-1", "[]", "1e308", "9" * 400, "-1e308", "0", '{"a": 1}', "1e-320"]
)
async def test_no_latency_stops_the_view(value: str, view: "View", new_session: "NewSession") -> None:
    [saved] = of(new_session("latency"), SAVED)
    body = f'{{"turn": 1, "agent_id": "host", "metrics": {{"e2e_latency": {value}}}}}'
    await view(DAILY).given([replace(saved, data=Raw(body.encode()))])

    [row] = await daily(view)
    assert (row["turns"], sum(row["response_ms"].values())) == (
        1,
        value in ("1e308", "9" * 400, "0", "1e-320"),
    )


def test_a_sketch_does_not_depend_on_the_order_of_its_values() -> None:
    def sketch(values: Sequence[float]) -> str:
        bins: Any = {}
        for value in values:
            bins = with_value(bins, value)
        return json.dumps(bins)

    values = [3.0, 1e9, 0.0, 512.5, 511.0, 3.01, float("inf"), 77.0]
    assert sketch(values) == sketch(values[::-1])
    assert sketch([*values, float("nan"), -1.0]) == sketch(values)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60)))
def test_numbers_are_counted_once_in_any_order(numbers: list[int]) -> None:
    known: Any = {}
    counted = []
    for number in numbers:
        grown = with_number(known, "AJ_1", number)
        counted += [number] if grown is not known else []
        known = grown
    assert sorted(counted) == sorted(set(numbers))


def test_what_was_counted_is_bounded() -> None:
    known: Any = {}
    for number in range(1, 4000, 2):
        known = with_number(known, "AJ_1", number)
    assert len(known["AJ_1"]) == MAX_RANGES
    for epoch in range(1000):
        known = with_number(known, str(epoch), 1)
    assert len(json.dumps(known)) < 100_000


async def test_a_timeline_says_what_happened(view: "View", new_session: "NewSession") -> None:
    session = new_session("timeline")
    log = of(
        session,
        SessionRequested(flow_id="booking", flow_revision=1, user_id="u", room="r"),
        AgentJoined(job_id="AJ_1", worker_id="AW", epoch="AJ_1", identity="agent-1"),
        JOINED,
        TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="a table"),
        AgentStateChanged(old_state="listening", new_state="thinking"),
        ToolStarted(call_id="c", name="find_table", arguments="{}"),
        ToolCompleted(call_id="c", name="find_table", status="done", output="x" * 5000),
        AgentStateChanged(old_state="thinking", new_state="speaking"),
        replace(SAVED, user_text="a table", assistant_text="Glad", interrupted=True),
        AgentLost(job_id="AJ_1", noticed_by="heartbeat"),
        CLOSED,
        replace(SAVED, assistant_text="late", recovered=True),
    )
    await view(TIMELINE).given(log)

    rows = await view.rows("timeline", order="started_at, sequence, part")
    number = {envelope.time: place for place, envelope in enumerate(log, start=1)}
    assert [
        (row["lane"], row["title"], (row["detail"] or "")[:22], row["sequence"], number[row["ended_at"]])
        for row in rows
    ] == [
        ("session", "Session", "flow booking", 1, 11),
        ("agent", "Agent agent-1", "job AJ_1, left: lost", 2, 10),
        ("participant", "caller", "standard", 3, 11),
        ("caller", "Turn 1", "a table", 4, 4),
        ("agent", "Turn 1 of host", "Glad (interrupted)", 4, 9),
        ("agent", "Thinking", "", 5, 8),
        ("tool", "find_table", "done: xxxxxxxxxxxxxxxx", 6, 7),
        ("agent", "Speaking", "", 8, 10),
        ("error", "Agent lost", "", 10, 10),
        ("session", "Session closed: caller_left", "", 11, 11),
    ]
    assert rows[6]["detail"].endswith("… (5,006 characters)")
    assert len(rows[6]["detail"]) < 2_100


async def everything(view: "View", projection: Projection) -> list[list[dict[str, Any]]]:
    return [await view.rows(table.name, ", ".join(table.key)) for table in projection.tables]


def a_call(session: "SampleSession", number: int) -> list[Envelope]:
    """Return the events of a call in which much happens."""
    return of(
        session,
        SessionRequested(flow_id=f"flow {number % 2}", flow_revision=1, user_id="u", room="r"),
        AgentJoined(job_id="AJ_1", worker_id="AW", epoch="AJ_1", identity="agent-1"),
        JOINED,
        AgentReady(greeting="Hello.", ready_ms=100.0 * (number + 1)),
        TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="a table"),
        ToolStarted(call_id="c", name="find_table", arguments="{}"),
        replace(SAVED, metrics={"e2e_latency": 0.1 * (number + 1)}, tool_call_ids=["c"]),
        ToolCompleted(call_id="c", name="find_table", status="done"),
        UsageUpdated(models=[model("large", input_tokens=number, audio_seconds=number / 3)]),
        AgentStateChanged(old_state="listening", new_state="speaking"),
        LEFT,
        JOINED,
        replace(SAVED, turn=2, interrupted=True, metrics={"e2e_latency": 0.3}),
        CLOSED,
    )


@pytest.mark.parametrize("projection", NEW, ids=lambda projection: projection.name)
async def test_rows_are_the_same_in_any_batches_and_any_order_of_sessions(
    projection: Projection, view: "View", new_session: "NewSession"
) -> None:
    logs = [view.committed(a_call(new_session(f"call {n}"), n)) for n in range(6)]
    await view(projection).again([envelope for log in logs for envelope in log])
    expected = await everything(view, projection)
    assert expected[0]

    for size in (1, 3, 50):
        await view.empty()
        shuffled, cache = view.shuffled(logs), Cache()
        for start in range(0, len(shuffled), size):
            cache = cache if start % 2 else Cache()
            await view(projection).again(shuffled[start : start + size], cache)
        assert await everything(view, projection) == expected


@pytest.mark.parametrize("projection", NEW, ids=lambda projection: projection.name)
def test_the_handlers_change_nothing_in_place(projection: Projection, new_session: "NewSession") -> None:
    from antiphon.persistence.projection.rows import Rows

    session = new_session("pure")
    log = [replace(e, sequence=n, position=n) for n, e in enumerate(a_call(session, 1), start=1)]
    cache = Cache(empty=True)

    def cached() -> list[str]:
        return [json.dumps([*cache.of(table).rows.values()], default=repr) for table in projection.tables]

    for envelope in log:
        before = cached()
        rows = Rows(cache)
        projection.fold(projection.opened([envelope]), rows)
        assert cached() == before
        rows.keep()


async def test_a_test_session_is_in_no_figure(view: "View", new_session: "NewSession") -> None:
    """It tries a flow: the calls of callers are counted beside it, and it has rows of its own elsewhere."""
    used = UsageUpdated(models=[model("large", input_tokens=100)])
    requested = SessionRequested(flow_id="booking", flow_revision=1, user_id="u", room="r")
    joined = AgentJoined(job_id="AJ_1", worker_id="AW_1", epoch="AJ_1", identity="agent")
    ready = AgentReady(greeting="", ready_ms=250.0)
    for name, first in (("real", requested), ("tried", replace(requested, test=True))):
        log = of(new_session(name), first, joined, ready, SAVED, used, replace(CLOSED, usage=used.models))
        for projection in (DAILY, USAGE, TOOLS, TIMELINE):
            await view(projection).given(log)

    rows = await daily(view)
    assert [row["calls"] for row in rows] == [1]
    assert [row["turns"] for row in rows] == [1]
    assert [row["input_tokens"] for row in await view.rows("usage", order="session_id")] == [100]
    assert len({row["session_id"] for row in await view.rows("timeline", order="session_id")}) == 2
