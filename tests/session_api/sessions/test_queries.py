"""GET /v1/sessions: newest first, filtered, page by page without gaps or duplicates."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import (
    CloseReason,
    FaultSide,
    SessionAdopted,
    SessionClosed,
    SessionRequested,
)
from antiphon.session_api.pagination import PageKey, encode_page_cursor

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)
READY = AgentReady(greeting="Good evening.", ready_ms=640.0)
AFTERWARDS: dict[int, tuple[Event, ...]] = {3: (READY,), 4: (CLOSED,), 6: (CLOSED,)}


def _id(number: int) -> str:
    return f"ses_{number:026d}"


@pytest.fixture
async def seven(persistence: Any) -> list[str]:
    """Seven sessions, newest first: three at one instant, users ada and grace, one ready, two closed."""
    for number in range(7):
        session_id = _id(number)
        at = START + timedelta(seconds=max(0, number - 2))
        user = "ada" if number % 2 == 0 else "grace"
        request = SessionRequested(flow_id="booking", flow_revision=1, user_id=user, room=session_id)
        more = AFTERWARDS.get(number, ())
        await persistence.commit(session_id, request, *more, at=at)
    return [_id(number) for number in reversed(range(7))]


async def _ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    response = await client.get("/v1/sessions", params=params)
    assert response.status_code == 200, response.text
    return [session["session_id"] for session in response.json()["sessions"]]


async def test_newest_session_comes_first(client: httpx.AsyncClient, seven: list[str]) -> None:
    assert await _ids(client) == seven


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_are_stable_for_equal_timestamps(
    limit: int, client: httpx.AsyncClient, seven: list[str]
) -> None:
    seen: list[str] = []
    params: dict[str, Any] = {"limit": limit}

    while True:
        page = (await client.get("/v1/sessions", params=params)).json()
        seen += [session["session_id"] for session in page["sessions"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]

    assert seen == seven


async def test_new_session_does_not_shift_pages(
    client: httpx.AsyncClient, seven: list[str], persistence: Any
) -> None:
    first = (await client.get("/v1/sessions", params={"limit": 3})).json()
    late = SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=_id(9))
    await persistence.commit(_id(9), late, at=START + timedelta(hours=1))

    assert await _ids(client, cursor=first["next"]) == seven[3:]


async def test_filter_by_user(client: httpx.AsyncClient, seven: list[str]) -> None:
    assert await _ids(client, user_id="grace") == [_id(5), _id(3), _id(1)]


@pytest.mark.parametrize("room", ["x" * 300, "two\r\nlines\x1b", "nul\0", "\x7f\u2028", " "])
async def test_any_room_that_was_adopted_is_found(
    room: str, client: httpx.AsyncClient, persistence: Any
) -> None:
    await persistence.commit(_id(1), SessionAdopted(room=room, user_id=room))

    for parameter in ("room", "user_id"):
        assert await _ids(client, **{parameter: room}) == [_id(1)]


async def test_filter_by_room(client: httpx.AsyncClient, seven: list[str], persistence: Any) -> None:
    for number in (7, 8):
        await persistence.commit(
            _id(number), SessionAdopted(room="lobby"), at=START + timedelta(hours=number)
        )

    assert await _ids(client, room="lobby") == [_id(8), _id(7)]
    assert await _ids(client, room="lobby", limit=1) == [_id(8)]
    assert await _ids(client, room=_id(3)) == [_id(3)]
    assert await _ids(client, room="elsewhere") == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [("closed", [6, 4]), ("ready", [3]), ("failed", []), (["ready", "closed"], [6, 4, 3])],
)
async def test_filter_by_status(
    status: Any, expected: list[int], client: httpx.AsyncClient, seven: list[str]
) -> None:
    assert await _ids(client, status=status) == [_id(number) for number in expected]


async def test_filters_combine_with_pages(client: httpx.AsyncClient, seven: list[str]) -> None:
    params: dict[str, Any] = {"status": "closed", "user_id": "ada", "limit": 1}

    first = (await client.get("/v1/sessions", params=params)).json()
    rest = await _ids(client, **{**params, "cursor": first["next"]})

    assert [session["session_id"] for session in first["sessions"]] == [_id(6)]
    assert rest == [_id(4)]


async def test_sessions_of_another_tenant_are_not_listed(client: httpx.AsyncClient, seven: list[str]) -> None:
    response = await client.get("/v1/sessions", headers={"Authorization": "Bearer foreign"})

    assert response.json() == {"sessions": [], "next": None}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"status": "sleeping"}, "status"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "?"}, "cursor"),
        ({"cursor": "bm90IGEgY3Vyc29y"}, "cursor"),
        ({"user_id": ""}, "user_id"),
        ({"room": ""}, "room"),
    ],
)
async def test_invalid_parameter_is_named(
    wrong: dict[str, Any], field: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.get("/v1/sessions", params=wrong)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_cursor_of_a_missing_session_is_valid(client: httpx.AsyncClient, seven: list[str]) -> None:
    cursor = encode_page_cursor(PageKey(START + timedelta(milliseconds=500), _id(99)))

    assert await _ids(client, cursor=cursor) == [_id(2), _id(1), _id(0)]
