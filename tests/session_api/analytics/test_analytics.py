"""Figures per day and per model, and timelines, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from antiphon.chassis.database import Database
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated

if TYPE_CHECKING:
    from tests.session_api.analytics.conftest import Happen
    from tests.session_api.fake_persistence import FakePersistence

DAY = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
MARCH = {"from": "2026-03-01", "to": "2026-03-31"}
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=90.0, turns=1)


def requested(flow_id: str = "booking") -> SessionRequested:
    return SessionRequested(flow_id=flow_id, flow_revision=1, user_id="ada", room="r")


def turn(number: int, seconds: float, *, interrupted: bool = False) -> TurnSaved:
    return TurnSaved(
        turn=number, epoch="AJ_1", agent_id="host", interrupted=interrupted, metrics={"e2e_latency": seconds}
    )


def used(model: str, tokens: int) -> UsageUpdated:
    usage = ModelUsage(kind="llm", provider="openai", model=model, input_tokens=tokens, requests=1)
    return UsageUpdated(models=[usage])


async def pages(
    client: httpx.AsyncClient, path: str, noun: str, params: dict[str, Any]
) -> list[dict[str, Any]]:
    """Read a list to its end, two items a page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        response = await client.get(path, params={**params, "limit": 2, **more})
        assert response.status_code == 200, response.text
        found += response.json()[noun]
        cursor = response.json()["next"]
        if cursor is None:
            return found


async def test_daily_adds_up_the_partitions_and_merges_their_sketches(
    client: httpx.AsyncClient, happen: "Happen"
) -> None:
    for number in range(1, 41):  # of many partitions
        await happen(
            f"call {number}",
            DAY,
            requested(),
            AgentReady(greeting="", ready_ms=float(number * 10)),
            turn(1, number / 100, interrupted=number % 4 == 0),
            CLOSED,
        )
    await happen("foreign", DAY, requested(), tenant="other")

    response = await client.get("/v1/analytics/daily", params=MARCH)
    assert response.status_code == 200, response.text
    [day] = response.json()["days"]

    response_ms, ready_ms = day.pop("response_ms"), day.pop("ready_ms")
    assert day == {
        "day": "2026-03-01",
        "flow_id": "booking",
        "calls": 40,
        "ended": 40,
        "failed": 0,
        "minutes": 60.0,
        "turns": 40,
        "interruptions": 10,
        "outcomes": {"caller_left": 40},
        "faults": {"none": 40},
    }
    assert (response_ms["count"], ready_ms["count"]) == (40, 40)
    assert response_ms["p50"] == pytest.approx(200, rel=0.03)
    assert response_ms["p95"] == pytest.approx(380, rel=0.03)
    assert ready_ms["p50"] == pytest.approx(200, rel=0.03)


async def test_pages_of_days_and_flows_have_each_once(client: httpx.AsyncClient, happen: "Happen") -> None:
    expected = []
    for number in range(3):
        at = DAY + timedelta(days=number)
        for flow in ("", "a", "b"):
            await happen(f"{number} {flow}", at, requested(flow))
            expected.append((at.date().isoformat(), flow or None))

    days = await pages(client, "/v1/analytics/daily", "days", MARCH)
    assert [(day["day"], day["flow_id"]) for day in days] == expected
    only = await pages(client, "/v1/analytics/daily", "days", {**MARCH, "flow_id": "b"})
    assert [day["flow_id"] for day in only] == ["b"] * 3
    none = await client.get("/v1/analytics/daily", params={"from": "2026-03-05", "to": "2026-03-05"})
    assert none.json() == {"days": [], "next": None}
    assert days[0]["response_ms"] == {"count": 0, "p50": None, "p95": None}


async def test_usage_adds_up_sessions_and_jobs(client: httpx.AsyncClient, happen: "Happen") -> None:
    for number in range(3):
        await happen(f"{number}", DAY, requested(), used("large", 10), used("large", 100 + number))
    await happen("small", DAY, requested("other"), used("small", 5))
    await happen("later", DAY + timedelta(days=1), requested(), used("large", 1))

    usage = await pages(client, "/v1/analytics/usage", "usage", MARCH)
    assert [(u["day"], u["model"], u["sessions"], u["input_tokens"]) for u in usage] == [
        ("2026-03-01", "large", 3, 303),
        ("2026-03-01", "small", 1, 5),
        ("2026-03-02", "large", 1, 1),
    ]
    booking = await pages(client, "/v1/analytics/usage", "usage", {**MARCH, "flow_id": "other"})
    assert [u["model"] for u in booking] == ["small"]


async def test_a_timeline_is_in_the_order_of_the_starts(client: httpx.AsyncClient, happen: "Happen") -> None:
    events: list[Event] = [
        requested(),
        turn(1, 0.5),
        ToolStarted(call_id="c", name="find_table", arguments="{}"),
        ToolCompleted(call_id="c", name="find_table", status="done", output="19:00"),
        CLOSED,
    ]
    session_id = await happen("timeline", DAY, *events)

    items = await pages(client, f"/v1/sessions/{session_id}/timeline", "timeline", {})
    assert [(item["lane"], item["title"], item["detail"]) for item in items] == [
        ("session", "Session", "flow booking"),
        ("agent", "Turn 1 of host", None),
        ("tool", "find_table", "done: 19:00"),
        ("session", "Session closed: caller_left", None),
    ]
    assert all(item["ended_at"] is not None for item in items)


async def test_the_timeline_of_an_unknown_session_is_404_and_of_a_new_one_empty(
    client: httpx.AsyncClient, session_id: str, happen: "Happen", persistence: "FakePersistence"
) -> None:
    foreign = await happen("foreign", DAY, requested(), tenant="other")
    for unknown in ("ses_00000000000000000000000000", "nope", foreign):
        response = await client.get(f"/v1/sessions/{unknown}/timeline")
        assert (response.status_code, response.json()["title"]) == (404, "Unknown session")

    fresh = await client.get(f"/v1/sessions/{session_id}/timeline")
    assert (fresh.status_code, fresh.json()) == (200, {"timeline": [], "next": None})


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2025-03-01", "to": "2026-03-02"}, "from"),
        ({"from": "2025-03-01"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"to": "2026-02-20T00:00:00Z"}, "to"),
        ({"to": "9999-01-01"}, "to"),
        ({"since": "2026-02-20"}, "since"),
        ({"cursor": "abc"}, "cursor"),
    ],
)
@pytest.mark.parametrize("path", ["daily", "usage"])
async def test_wrong_parameters_are_named(
    path: str, params: dict[str, str], field: str, client: httpx.AsyncClient
) -> None:
    response = await client.get(f"/v1/analytics/{path}", params=params)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert response.json()["errors"][0]["code"]


async def test_a_longer_period_without_its_end_is_refused_and_a_year_is_not(
    client: httpx.AsyncClient, happen: "Happen"
) -> None:
    today = datetime.now(UTC)
    await happen("today", today, requested())

    async def answer(days: int) -> httpx.Response:
        first = (today - timedelta(days=days)).date().isoformat()
        return await client.get("/v1/analytics/daily", params={"from": first})

    year, longer = await answer(364), await answer(367)  # midnight may pass
    assert [day["calls"] for day in year.json()["days"]] == [1]
    assert longer.status_code == 422
    [error] = longer.json()["errors"]
    assert "takes at most 366 days up to `to`" in error["message"]
    assert error["code"] == "period_too_long"


async def test_a_year_is_taken_and_the_last_days_are_the_default(
    client: httpx.AsyncClient, happen: "Happen"
) -> None:
    await happen("today", datetime.now(UTC), requested())
    leap = await client.get("/v1/analytics/daily", params={"from": "2024-01-01", "to": "2024-12-31"})
    recent = await client.get("/v1/analytics/daily")

    assert leap.status_code == 200
    assert [day["calls"] for day in recent.json()["days"]] == [1]


async def test_a_cursor_of_another_list_is_refused(client: httpx.AsyncClient, happen: "Happen") -> None:
    for flow in ("a", "b"):
        await happen(flow, DAY, requested(flow))
    cursor = (await client.get("/v1/analytics/daily", params={**MARCH, "limit": 1})).json()["next"]
    assert cursor is not None

    assert (await client.get("/v1/analytics/usage", params={**MARCH, "cursor": cursor})).status_code == 422
    april = {"from": "2026-04-01", "to": "2026-04-30", "cursor": cursor}
    assert (await client.get("/v1/analytics/daily", params=april)).status_code == 422


@pytest.mark.parametrize(
    ("view", "path"),
    [
        ("daily", "/v1/analytics/daily"),
        ("usage", "/v1/analytics/usage"),
        ("timeline", "/v1/sessions/ses_00000000000000000000000000/timeline"),
    ],
)
async def test_a_view_that_is_not_built_is_named(
    view: str, path: str, client: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute(f"alter table {view} rename to {view}_away")
    try:
        response = await client.get(path)
    finally:
        await database.pool.execute(f"alter table {view}_away rename to {view}")

    assert (response.status_code, response.json()["view"]) == (503, view)
    assert response.json()["type"].endswith("/view-not-built")
    assert response.headers["Retry-After"]


async def test_a_key_that_may_not_read_is_refused(
    client: httpx.AsyncClient, put_key: Any, running: Any
) -> None:
    await put_key("create-only", scopes=("sessions:write",))
    headers = {"Authorization": "Bearer create-only"}
    for path in ("/v1/analytics/daily", "/v1/analytics/usage"):
        assert (await client.get(path, headers=headers)).status_code in (401, 403)
