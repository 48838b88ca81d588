"""Pages are bounded in bytes as well as in number: `next` continues after the last item that fitted."""

from typing import Any

import httpx
import pytest
from tests.session_api.sessions.test_queries import seven

from antiphon.chassis.database import Database
from antiphon.session_api.sessions import queries

__all__ = ["seven"]

ENLARGE_SESSIONS = "update sessions set metadata = json_build_object('note', repeat('x', $1::integer))"
INSERT_TURNS = """
insert into turns (session_id, epoch, turn, tenant, agent_id, state, interrupted, recovered,
    occurred_at, sequence, first_sequence, tool_call_ids, metrics, user_text)
select $1, '', number, 'default', 'host', 'saved', false, false,
    now(), 10 + number, 10 + number, '[]', '{}', repeat('x', $3::integer)
from generate_series(1, $2::integer) as number
"""
MIB = 1 << 20


async def _pages(client: httpx.AsyncClient, url: str, noun: str, limit: int) -> list[list[dict[str, Any]]]:
    pages: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    while cursor is not None or not pages:
        params: dict[str, Any] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        response = await client.get(url, params=params)
        assert response.status_code == 200, response.text
        assert len(response.content) < 2 * MIB + 100_000
        pages.append(response.json()[noun])
        cursor = response.json()["next"]
    return pages


@pytest.mark.parametrize(("size", "expected"), [(100, [7]), (400_000, [3, 3, 1]), (MIB + 1, [1] * 7)])
async def test_a_page_of_large_sessions_is_cut(
    size: int,
    expected: list[int],
    client: httpx.AsyncClient,
    seven: list[str],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queries, "PAGE_BYTES", MIB)
    await database.pool.execute(ENLARGE_SESSIONS, size)

    pages = await _pages(client, "/v1/sessions", "sessions", 200)

    assert [len(page) for page in pages] == expected
    assert [session["session_id"] for page in pages for session in page] == seven


@pytest.mark.parametrize(("size", "expected"), [(100, [5, 2]), (400_000, [3, 3, 1]), (MIB + 1, [1] * 7)])
async def test_a_page_of_large_turns_is_cut(
    size: int,
    expected: list[int],
    client: httpx.AsyncClient,
    session_id: str,
    persistence: Any,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queries, "PAGE_BYTES", MIB)
    await persistence.catch_up(session_id)
    await database.pool.execute(INSERT_TURNS, session_id, 7, size)

    pages = await _pages(client, f"/v1/sessions/{session_id}/turns", "turns", 5)

    assert [len(page) for page in pages] == expected
    assert [turn["turn"] for page in pages for turn in page] == list(range(1, 8))
