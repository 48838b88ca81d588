"""GET /v1/sessions: every filter finds its sessions, and what is no filter is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
    SessionRequested,
)

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def _id(number: int) -> str:
    return f"ses_{number:026d}"


@pytest.fixture
async def five(persistence: Any) -> None:
    """Sessions 0 to 4, a minute apart, each of its own kind."""
    requested = [
        SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room="r0"),
        SessionRequested(flow_id="desk", flow_revision=1, user_id="ada", room="r1", conversation_id="c-1"),
        SessionRequested(
            flow_id="booking",
            flow_revision=1,
            user_id="ada",
            room="r2",
            metadata={"order": "A-17", "vip": True, "seats": 2, "inner": {"a": 1}},
        ),
        SessionRequested(
            flow_id="booking", flow_revision=1, user_id="ada", room="r3", metadata={"seats": "2"}
        ),
        SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room="r4", conversation_id="c-1"),
    ]
    ends: dict[int, Any] = {
        0: SessionClosed(reason=CloseReason.ERROR, fault=FaultSide.AGENT, duration_seconds=1.0, turns=0),
        1: SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=1.0, turns=0),
        2: SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1),
    }
    for number, request in enumerate(requested):
        events = (request, ends[number]) if number in ends else (request,)
        await persistence.commit(_id(number), *events, at=START + timedelta(minutes=number))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("flow_id=desk", [1]),
        ("conversation_id=c-1", [4, 1]),
        ("conversation_id=c-1&flow_id=desk", [1]),
        ("reason=error", [0]),
        ("reason=agent_lost", [2]),
        ("fault=none", [1]),
        ("fault=agent", [0]),
        ("fault=platform", []),
        ("created_after=2026-11-21T09:33:00Z", [4, 3]),
        ("created_before=2026-11-21T09:31:00Z", [0]),
        ("created_after=2026-11-21T10:31:00%2B01:00&created_before=2026-11-21T09:32:00Z", [1]),
        ("created_after=2026-11-21T10:33:00+01:00", [4, 3]),  # the plus sign is not escaped
        (
            "created_after=0002-01-01T00:00:00-14:00&created_before=9998-12-31T23:59:59%2B14:00",
            [4, 3, 2, 1, 0],
        ),
        ("metadata[order]=A-17", [2]),
        ("metadata%5Border%5D=A-17", [2]),
        ("metadata[seats]=2", [3, 2]),
        ("metadata[seats]=2&metadata[vip]=true", [2]),
        ("metadata[seats]=3", []),
        ("metadata[inner]=1", []),
        ("metadata[nothing]=1", []),
        ("metadata[order]=A-17&status=failed&user_id=ada&room=r2&flow_id=booking", [2]),
    ],
)
async def test_a_filter_finds_its_sessions(
    query: str, expected: list[int], client: httpx.AsyncClient, five: None
) -> None:
    response = await client.get(f"/v1/sessions?{query}")

    assert response.status_code == 200, response.text
    assert [session["session_id"] for session in response.json()["sessions"]] == [_id(n) for n in expected]


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("user=ada", "user", "did you mean user_id?"),
        ("flow=booking", "flow", "did you mean flow_id?"),
        ("page=2", "page", "it takes conversation_id, created_after"),
        ("status=ready&Status=ready", "Status", "did you mean status?"),
        ("metadata=x", "metadata", "did you mean metadata[<key>]?"),
        ("metadata.order=x", "metadata.order", "is not a parameter"),
        ("limit=1&limit=2", "limit", "more than once"),
        ("created_after=2026-11-21T09:30:00", "created_after", "with an offset"),
        ("created_after=2026-11-21", "created_after", "with an offset"),
        ("created_after=1700000000", "created_after", "with an offset"),
        ("created_after=2026-02-30T09:30:00Z", "created_after", "day is out of range"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before", "takes a year"),
        ("created_before=9999-12-31T23:59:59-14:00", "created_before", "takes a year"),
        (
            "created_after=2026-11-21T09:30:01Z&created_before=2026-11-21T09:30:00Z",
            "created_after",
            "is later than created_before",
        ),
        ("reason=tired", "reason", "takes one of caller_left"),
        ("fault=nobody", "fault", "takes 'none', 'caller', 'agent' or 'platform'"),
        ("metadata[a%3Db]=1", "metadata[a=b]", "no key with an equals sign"),
        (f"metadata[a]={'x' * 512}", "metadata[a]", "at most 512 characters"),
        ("&".join(f"metadata[k{n}]=1" for n in range(11)), "metadata", "at most 10 members"),
    ],
)
async def test_what_is_no_filter_is_refused(
    query: str, field: str, message: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.get(f"/v1/sessions?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert message in response.json()["errors"][0]["message"], response.text


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/v1/sessions", "it takes timeout_seconds, wait"),
        ("GET", f"/v1/sessions/{_id(1)}", "it takes at, at_time, timeout_seconds, wait"),
        ("GET", f"/v1/sessions/{_id(1)}/turns", "it takes at, at_time, cursor, limit"),
        ("GET", f"/v1/sessions/{_id(1)}/events", "it takes after, cursor, limit"),
        ("POST", f"/v1/sessions/{_id(1)}/token", "it takes none"),
        ("POST", f"/v1/sessions/{_id(1)}/end", "it takes none"),
        ("GET", "/v1/flows", "it takes cursor, limit"),
    ],
)
async def test_every_route_refuses_an_unknown_parameter(
    method: str, path: str, message: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.request(method, path, params={"zzz": "1"})

    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert (error["field"], error["in"], error["code"]) == ("zzz", "query", "unknown_parameter")
    assert message in error["message"]
