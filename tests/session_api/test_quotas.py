"""Running sessions of a tenant are limited by what the views count; an outage of Postgres refuses nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from tests.session_api.fake_persistence import FakePersistence

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.session_api import quotas
from antiphon.session_api.quotas import SessionQuota

CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)
CREATE = {"flow_id": "booking", "user_id": "ada"}
WRITER = {"Authorization": "Bearer writer"}
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def create(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/sessions", json=CREATE)


@pytest.fixture
async def recounting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count again at every create."""
    monkeypatch.setattr(quotas, "COUNT_SECONDS", 0.0)


@pytest.mark.usefixtures("recounting")
async def test_sessions_over_the_quota_are_refused_until_one_ends(
    start: Any, persistence: FakePersistence, until: Until
) -> None:
    running = await start(sessions_per_tenant=2)
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=15) as client:
        created: list[str] = []
        last: httpx.Response | None = None

        async def refused() -> bool:
            nonlocal last
            last = await create(client)
            if last.status_code == 201:
                created.append(last.json()["session_id"])
                await persistence.catch_up(created[-1])
            return last.status_code == 429

        await until(refused)
        assert len(created) >= 2
        assert last is not None
        assert last.json()["type"].endswith("/quota-exceeded")
        assert (last.json()["quota"], last.json()["limit"]) == ("sessions", 2)
        assert last.headers["retry-after"] == "5"
        assert (await client.get("/v1/sessions")).status_code == 200
        for session_id in created:
            await persistence.commit(session_id, CLOSED)

        async def admitted() -> bool:
            return (await create(client)).status_code == 201

        await until(admitted)
    await running.dependencies.limits.sessions.close()


@pytest.mark.usefixtures("recounting")
async def test_while_postgres_is_away_nothing_is_refused(bus: Bus, until: Until) -> None:
    database = await Database.connect("postgresql://127.0.0.1:1/unreachable", min_size=0)
    quota = SessionQuota(database, 1)

    with capture_logs() as lines:

        async def logged() -> bool:
            quota.admit("acme")
            return any(line["event"] == "quota.not_counted" for line in lines)

        await until(logged)
        for _ in range(10):
            quota.admit("acme")
    await quota.close()
    await database.close()


async def test_without_a_quota_nothing_is_counted(running: Any, client: httpx.AsyncClient) -> None:
    assert (await create(client)).status_code == 201
    assert running.dependencies.limits.sessions._task is None


async def test_counts_in_memory_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "TENANTS", 3)
    quota = SessionQuota(database, 5)

    for number in range(10):
        quota.admit(f"tenant-{number}")

    assert len(quota._counts) == 3
    await quota.close()
