"""A session at a time, pages of past turns, long sessions, and history while events are committed."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.strategies import EPOCH, histories, history
from tests.contracts.test_turns import FEW_TURNS
from tests.session_api.sessions.past import (
    SESSION,
    at_seconds,
    call,
    real_call,
    record,
    session_after,
    states_by_time,
    turns_after,
)

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.turn import TurnSaved
from antiphon.session_api.pagination import PAGE_BYTES
from antiphon.session_api.sessions import history as history_module
from antiphon.session_api.sessions.past_turns import PastTurns

PATH = f"/v1/sessions/{SESSION}"


@pytest.fixture
async def recorded(database: Database) -> list[Envelope]:
    """A call on record."""
    envelopes = call()
    await record(database, envelopes)
    return envelopes


# Times

SKEWED = [1, 2, 2, 9, 3, 4, 4.5, 4.5, 12, 5, 5, 6, 7, 30, 8, 9, 10, 11]  # not in the order of the events


@pytest.mark.parametrize("at", [1, 1.5, 2, 3, 8.999999, 9, 10, 12, 20, 30, 31])
async def test_at_a_time_is_the_last_state_that_nothing_later_had_changed(
    at: float, client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = at_seconds(call(), SKEWED)
    await record(database, envelopes)
    time = EPOCH + timedelta(seconds=at)
    expected = states_by_time(envelopes, time)

    response = await client.get(PATH, params={"at_time": time.isoformat()})
    turns = await client.get(f"{PATH}/turns", params={"at_time": time.isoformat()})

    assert response.json() == session_after(envelopes[:expected])
    assert turns.json()["turns"] == turns_after(envelopes[:expected])
    fixed = expected < len(envelopes)
    for each in (response, turns):
        assert each.headers["antiphon-sequence"] == str(expected)
        assert ("immutable" in each.headers["cache-control"]) is fixed


async def test_a_call_is_not_over_before_it_has_been_closed(
    client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = real_call()
    await record(database, envelopes)
    path = f"/v1/sessions/{envelopes[0].subject}"
    closed = next(envelope for envelope in envelopes if envelope.type == "session.closed")
    late = [envelope for envelope in envelopes[103:] if envelope.time < closed.time]
    assert len(late) == 5, "what LiveKit reports after it, in whole seconds"

    for time, status in ((late[0].time, "active"), (closed.time, "closed")):
        response = await client.get(path, params={"at_time": time.isoformat()})
        assert response.json()["status"] == status


async def test_a_state_that_a_later_event_can_change_is_asked_for_again(
    client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = call()
    await record(database, envelopes[:4])
    params = {"at_time": (EPOCH + timedelta(seconds=4.5)).isoformat()}
    first = await client.get(PATH, params=params)
    assert (first.headers["antiphon-sequence"], first.headers["cache-control"]) == ("4", "private, no-cache")
    known = {"If-None-Match": first.headers["etag"]}
    assert (await client.get(PATH, params=params, headers=known)).status_code == 304

    await record(database, at_seconds(envelopes[4:5], [4.2]))
    again = await client.get(PATH, params=params, headers=known)
    assert (again.status_code, again.json()["status"]) == (200, "ready")

    await record(database, envelopes[5:6])
    fixed = await client.get(PATH, params=params)
    assert (fixed.headers["antiphon-sequence"], "immutable" in fixed.headers["cache-control"]) == ("5", True)


async def test_the_present_time_is_the_last_state(
    client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    response = await client.get(PATH, params={"at_time": datetime.now(UTC).isoformat()})

    assert response.json() == session_after(recorded)


# Pages of turns


def turns_of_a_long_call(count: int, text: str = "hello") -> list[Envelope]:
    turns = [
        TurnSaved(turn=n, epoch="AJ_1", agent_id="host", user_text=text, assistant_text=f"answer {n}")
        for n in range(1, count + 1)
    ]
    return history(list(turns))


async def test_turns_are_paginated(client: httpx.AsyncClient, recorded: list[Envelope]) -> None:
    for at in (14, 18):
        seen: list[Any] = []
        params: dict[str, Any] = {"at": at, "limit": 1}
        while params.get("cursor", "") is not None:
            page = (await client.get(f"{PATH}/turns", params=params)).json()
            seen += page["turns"]
            params["cursor"] = page["next"]
        assert seen == turns_after(recorded[:at])


async def test_a_page_is_bounded_in_bytes(client: httpx.AsyncClient, database: Database) -> None:
    await record(database, turns_of_a_long_call(12, "x" * 600_000))

    first = await client.get(f"{PATH}/turns", params={"at": 12})
    rest = await client.get(f"{PATH}/turns", params={"at": 12, "cursor": first.json()["next"]})

    assert 1 <= len(first.json()["turns"]) < 12
    assert len(first.content) < PAGE_BYTES + 600_000
    assert [turn["turn"] for turn in first.json()["turns"] + rest.json()["turns"]] == list(range(1, 13))


async def test_pages_of_a_time_are_of_one_state(client: httpx.AsyncClient, database: Database) -> None:
    envelopes = turns_of_a_long_call(5)
    await record(database, envelopes[:3])
    params = {"at_time": "2030-01-01T00:00:00Z", "limit": "2"}
    first = await client.get(f"{PATH}/turns", params=params)

    await record(database, envelopes[3:])
    rest = await client.get(f"{PATH}/turns", params={**params, "cursor": first.json()["next"]})

    assert [turn["turn"] for turn in rest.json()["turns"]] == [3]
    assert (rest.json()["next"], rest.headers["antiphon-sequence"]) == (None, "3")


async def test_a_cursor_is_of_one_list(client: httpx.AsyncClient, recorded: list[Envelope]) -> None:
    path = f"{PATH}/turns"
    cursor = (await client.get(path, params={"at": 14, "limit": 1})).json()["next"]

    for params in ({"at": 15}, {"at_time": "2030-01-01T00:00:00Z"}, {}):
        response = await client.get(path, params={**params, "cursor": cursor})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "cursor")


def paged(envelopes: list[Envelope], limit: int) -> list[Any]:
    """Return all turns, page by page."""
    seen: list[Any] = []
    after = 0
    while True:
        turns = PastTurns(SESSION, "default", after, limit)
        for envelope in envelopes:
            turns.add(envelope)
        found = turns.listed()
        seen += [msgspec.json.decode(turn) for _, turn in found.items]
        if not found.more:
            return seen
        assert len(found.items) == limit
        after = found.items[-1][0]


@given(FEW_TURNS | histories(), st.integers(1, 4), st.data())
def test_pages_together_are_all_turns(envelopes: list[Envelope], limit: int, data: st.DataObject) -> None:
    events = envelopes[: data.draw(st.integers(0, len(envelopes)))]

    assert paged(events, limit) == turns_after(events)


# Long sessions, and sessions that go on


async def test_a_long_session_is_replayed_in_pages(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "PAGE", 7)
    envelopes = turns_of_a_long_call(40)
    await record(database, envelopes)

    for count in (6, 7, 8, 14, 39, 40):
        assert (await client.get(PATH, params={"at": count})).json() == session_after(envelopes[:count])
        page = (await client.get(f"{PATH}/turns", params={"at": count})).json()
        assert page["turns"] == turns_after(envelopes[:count])


async def test_large_events_are_replayed(client: httpx.AsyncClient, database: Database) -> None:
    await record(database, turns_of_a_long_call(20, "x" * 900_000))

    assert (await client.get(PATH, params={"at": 20})).json()["turns"] == 20


async def test_history_is_the_same_while_events_are_committed(
    client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = turns_of_a_long_call(300)
    await record(database, envelopes[:50])
    before = (await client.get(PATH, params={"at": 50})).content

    async def committing() -> None:
        for envelope in envelopes[50:]:
            await record(database, [envelope])

    writing = asyncio.create_task(committing())
    reads = 0
    while not writing.done():
        response = await client.get(PATH, params={"at": 50})
        assert (response.content, response.headers["antiphon-sequence"]) == (before, "50")
        last = (await client.get(PATH, params={"at": 10**6})).json()["last_sequence"]
        newest = (await client.get(PATH, params={"at": last})).json()
        assert newest == session_after(envelopes[:last])
        reads += 1
    await writing
    assert reads
