"""Figures and timelines through the clients, from a real session-api."""

from datetime import UTC, date, datetime

from tests.session_api.analytics.conftest import Happen, happen
from tests.session_api.analytics.test_analytics import CLOSED, requested, turn, used
from tests.session_api.conftest import Running

from antiphon.client import Antiphon, AsyncAntiphon

__all__ = ["happen"]

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_figures_are_typed(client: AsyncAntiphon, happen: Happen) -> None:
    session_id = await happen("call", DAY, requested(), turn(1, 0.5), used("large", 7), CLOSED)

    [day] = [found async for found in client.analytics.daily(from_day=date(2026, 3, 1), to_day="2026-03-31")]
    assert (day.day, day.flow_id, day.calls, day.minutes) == (date(2026, 3, 1), "booking", 1, 1.5)
    assert day.response_ms.p50 is not None
    assert abs(day.response_ms.p50 - 500) <= 5
    assert (day.ready_ms.count, day.ready_ms.p95) == (0, None)
    [usage] = [found async for found in client.analytics.usage(from_day="2026-03-01", to_day="2026-03-01")]
    assert (usage.model, usage.sessions, usage.input_tokens) == ("large", 1, 7)
    items = [item async for item in client.sessions.timeline(session_id, page_size=1)]
    assert [item.title for item in items] == ["Session", "Turn 1 of host", "Session closed: caller_left"]
    assert items[0].ended_at == DAY


async def test_the_sync_client_has_the_same(running: Running) -> None:
    import asyncio

    def read() -> tuple[int, int]:
        with Antiphon(running.url, "writer") as client:
            return len(list(client.analytics.daily())), len(list(client.analytics.usage()))

    assert await asyncio.to_thread(read) == (0, 0)
