"""Running sessions of a tenant are limited by what the views count; an outage of Postgres refuses nothing."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from tests.session_api.fake_persistence import FakePersistence

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


async def test_a_burst_is_held_to_the_quota(start: Any) -> None:
    running = await start(sessions_per_tenant=5)
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=60) as client:
        answers = await asyncio.gather(*(create(client) for _ in range(40)))

    assert Counter(answer.status_code for answer in answers) == {201: 5, 429: 35}
    await running.dependencies.limits.sessions.close()


@pytest.mark.usefixtures("recounting")
async def test_sessions_count_while_the_views_do_not_have_them(start: Any) -> None:
    running = await start(sessions_per_tenant=2)  # and no persistence
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=60) as client:
        answers = []
        for _ in range(6):
            answers.append((await create(client)).status_code)
            await asyncio.sleep(0.1)  # it is counted again

    assert answers == [201, 201, 429, 429, 429, 429]
    await running.dependencies.limits.sessions.close()


async def test_creates_that_fail_do_not_count(start: Any, livekit: Any) -> None:
    running = await start(sessions_per_tenant=1)
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=60) as client:
        unknown = [await client.post("/v1/sessions", json={**CREATE, "flow_id": "none"}) for _ in range(3)]
        livekit.status = 401
        refused = [await create(client) for _ in range(3)]
        livekit.status = 200

        assert {answer.status_code for answer in unknown} == {404}
        assert {answer.status_code for answer in refused} == {502}
        assert (await create(client)).status_code == 201
        assert (await create(client)).status_code == 429
    await running.dependencies.limits.sessions.close()


async def test_a_retry_at_the_quota_gets_its_session(start: Any) -> None:
    running = await start(sessions_per_tenant=1)
    async with httpx.AsyncClient(base_url=running.url, headers=WRITER, timeout=60) as client:
        first = await client.post("/v1/sessions", json=CREATE, headers={"Idempotency-Key": "order-17"})
        second = await client.post("/v1/sessions", json=CREATE, headers={"Idempotency-Key": "order-17"})
        another = await client.post("/v1/sessions", json=CREATE, headers={"Idempotency-Key": "order-18"})

    assert (first.status_code, second.status_code, another.status_code) == (201, 201, 429)
    assert second.json()["session_id"] == first.json()["session_id"]
    await running.dependencies.limits.sessions.close()


async def test_while_postgres_is_away_nothing_is_refused() -> None:
    database = await Database.connect("postgresql://127.0.0.1:1/unreachable", min_size=0)
    quota = SessionQuota(database, 1)

    with capture_logs() as lines:
        for number in range(10):
            assert await quota.admit("acme", f"ses_{number}")

    assert "quota.not_counted" in [line["event"] for line in lines]
    assert len(quota._counts["acme"].recent) == 1
    await quota.close()
    await database.close()


async def test_without_a_quota_nothing_is_counted(running: Any, client: httpx.AsyncClient) -> None:
    assert (await create(client)).status_code == 201
    assert running.dependencies.limits.sessions._task is None


async def test_counts_in_memory_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "TENANTS", 3)
    quota = SessionQuota(database, 5)

    for number in range(10):
        await quota.admit(f"tenant-{number}", "ses_1")

    assert len(quota._counts) == 3
    await quota.close()


async def test_requests_of_a_tenant_are_limited_over_all_its_keys(
    start: Any, put_key: Any, buckets: Any, until: Until
) -> None:
    digest = await put_key("third")

    async def known() -> bool:
        return digest in buckets[0]

    await until(known)
    running = await start(requests_per_key=1, requests_per_tenant=2)  # 10 and 20 in ten seconds
    statuses: list[int] = []
    async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
        for secret in ("writer", "reader", "third"):
            for _ in range(10):
                last = await client.get("/v1/flows", headers={"Authorization": f"Bearer {secret}"})
                statuses.append(last.status_code)
            if secret == "reader":
                shown = last
        foreign = await client.get("/v1/flows", headers={"Authorization": "Bearer foreign"})

    assert statuses == [200] * 20 + [429] * 10
    assert '"tenant-requests";q=20;w=10' in shown.headers["ratelimit-policy"]
    assert foreign.status_code == 200
