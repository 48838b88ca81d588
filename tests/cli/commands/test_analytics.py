"""`antiphon timeline`, and `antiphon analytics daily` and `usage`."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.commands.recorded import NOW, SESSION
from typer.testing import CliRunner

from antiphon.cli import api
from antiphon.cli.commands import timeline
from antiphon.cli.main import app
from antiphon.client import DailyFigures, Latency, TimelineItem, UsageFigures

DAY = DailyFigures(
    day=date(2026, 1, 2),
    calls=7,
    minutes=12.34,
    response_ms=Latency(count=5, p50=612.8, p95=1341.2),
    outcomes={"caller_left": 7},
)
USED = UsageFigures(day=date(2026, 1, 2), kind="llm", provider="x\x1b[2J", model="large", input_tokens=12)
ITEMS = [
    TimelineItem(lane="session", started_at=NOW, title="Session", detail="flow booking"),
    TimelineItem(
        lane="tool",
        started_at=NOW + timedelta(seconds=2),
        ended_at=NOW + timedelta(seconds=2.5),
        title="find_table\n",
        detail="done: " + "x" * 500,
    ),
]


async def each(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the commands asked the client for."""
    requests: list[dict[str, Any]] = []

    def answering(items: list[Any]) -> Any:
        def answer(*_: Any, **wanted: Any) -> AsyncIterator[Any]:
            requests.append(wanted)
            return each(items)

        return answer

    client = SimpleNamespace(
        sessions=SimpleNamespace(timeline=answering(ITEMS)),
        analytics=SimpleNamespace(daily=answering([DAY]), usage=answering([USED])),
    )

    @asynccontextmanager
    async def open_api() -> AsyncIterator[Any]:
        yield client

    monkeypatch.setattr(api, "open_api", open_api)
    monkeypatch.setattr(timeline, "open_api", open_api)
    return requests


@pytest.mark.usefixtures("asked")
async def test_a_timeline_has_a_line_for_each_thing(capsys: pytest.CaptureFixture[str]) -> None:
    await timeline.print_timeline(SESSION)
    first, second = capsys.readouterr().out.splitlines()

    assert first.split() == ["+0.000", "s", "goes", "on", "session", "Session", "flow", "booking"]
    assert "0.500 s  tool        find_table\\x0a  done: xxx" in second
    assert second.endswith("…")


def test_the_days_are_passed_on_and_printed(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    app(["analytics", "daily", "--from", "2026-01-01", "--flow", "booking"], standalone_mode=False)

    assert asked == [{"from_day": "2026-01-01", "to_day": None, "flow_id": "booking"}]
    printed = capsys.readouterr().out
    assert "2026-01-02" in printed
    assert "12.3" in printed
    assert "613 / 1341" in printed


@pytest.mark.usefixtures("asked")
def test_the_texts_of_providers_do_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    app(["analytics", "usage"], standalone_mode=False)
    assert "x\\x1b[2J" in capsys.readouterr().out

    app(["analytics", "usage", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert document["usage"][0]["input_tokens"] == 12


def test_a_day_that_is_none_is_refused_before_anything_is_asked() -> None:
    result = CliRunner().invoke(app, ["analytics", "daily", "--to", "tomorrow"])

    assert result.exit_code == 2
    assert "--to takes a day as YYYY-MM-DD" in result.output
