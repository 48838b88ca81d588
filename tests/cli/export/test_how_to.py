"""The page about DuckDB: its commands and its SQL run as they are, and give the tables that it shows."""

import asyncio
import contextlib
import io
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from tests.cli.export.batches import session_id
from tests.session_api.conftest import (
    Running,
    buckets,
    livekit,
    persistence,
    put_flow,
    put_key,
    running,
    start,
)
from tests.session_api.fake_persistence import FakePersistence

from antiphon.contracts.event import Event
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed, SessionRequested
from antiphon.contracts.events.tool import ToolCompleted
from antiphon.contracts.events.turn import TurnSaved

__all__ = ["buckets", "livekit", "persistence", "put_flow", "put_key", "running", "start"]

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "analyse-events-with-duckdb.md"
BLOCK = re.compile(r"^```(console|sql|python)\n(.*?)^```\n(?:\n((?:\|[^\n]*\n)+))?", re.MULTILINE | re.DOTALL)
PROGRAM = ".venv/bin/antiphon"

FIRST = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
# flow, day, minutes, and tools with their status and seconds
CALLS: tuple[tuple[str, int, float, tuple[tuple[str, str, float], ...]], ...] = (
    ("booking", 0, 1.5, (("book_table", "done", 1.0), ("end_call", "done", 0.1))),
    ("booking", 0, 2.5, (("book_table", "error", 2.0), ("end_call", "done", 0.1))),
    ("booking", 0, 2.0, (("book_table", "done", 1.0), ("send_text", "done", 0.5), ("end_call", "done", 0.1))),
    ("support", 0, 4.0, (("send_text", "error", 0.5), ("end_call", "done", 0.1))),
    (
        "booking",
        1,
        1.5,
        (("book_table", "error", 2.0), ("send_text", "done", 0.5), ("end_call", "done", 0.1)),
    ),
    ("booking", 1, 2.0, (("book_table", "done", 2.0), ("end_call", "done", 0.1))),
)
TURNS = 4  # in each call
PERSONAL = "my name is Ada Lovelace"


def call(number: int) -> Iterator[Event]:
    """Yield the events of a call."""
    flow, _, minutes, tools = CALLS[number]
    yield SessionRequested(flow_id=flow, flow_revision=1, user_id=PERSONAL, room="r")
    for turn in range(1, TURNS + 1):
        latency = 0.5 + 0.2 * turn + 0.1 * number if turn > 1 else 0.6
        yield TurnSaved(
            turn=turn, agent_id="host", user_text=PERSONAL, metrics={"e2e_latency": round(latency, 2)}
        )
    for position, (name, status, seconds) in enumerate(tools):
        yield ToolCompleted(
            call_id=f"c{position}",
            name=name,
            status=status,  # type: ignore[arg-type]
            output=PERSONAL,
            duration_seconds=seconds,
        )
    yield SessionClosed(
        reason=CloseReason.AGENT_ENDED,
        fault=FaultSide.NONE,
        duration_seconds=minutes * 60,
        turns=TURNS,
    )


@pytest.fixture
async def calls(persistence: FakePersistence) -> None:
    """Six calls on two days."""
    for number, (_, day, *_) in enumerate(CALLS):
        at = FIRST + timedelta(days=day, minutes=10 * number)
        await persistence.commit(session_id(number), *call(number), at=at)


async def run(command: str, running: Running) -> None:
    """Run a command of the page."""
    environment = {**os.environ, "ANTIPHON_API_URL": running.url, "ANTIPHON_API_KEY": "reader"}
    program = (sys.executable, "-c", "from antiphon.cli.main import app; app()")
    arguments = shlex.split(command)[1:]
    process = await asyncio.create_subprocess_exec(*program, *arguments, env=environment, stderr=PIPE)
    async with asyncio.timeout(120):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


def table_of(shown: str) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of a table of the page."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in shown.splitlines()]
    return rows[0], rows[2:]


def check_sql(connection: duckdb.DuckDBPyConnection, text: str, shown: str) -> None:
    """Run SQL of the page; require the table that it shows."""
    found = connection.sql(text)
    if not shown:
        assert found is None or found.fetchall() == []
        return
    columns, rows = table_of(shown)
    assert found.columns == columns
    assert [[str(value) for value in row] for row in found.fetchall()] == rows


async def check(kind: str, text: str, shown: str, running: Running, sql: duckdb.DuckDBPyConnection) -> str:
    """Run a block of the page; return what it printed."""
    if kind == "console":
        for line in text.splitlines():
            if line.startswith(f"$ {PROGRAM}"):
                await run(line.removeprefix("$ "), running)
    elif kind == "sql":
        check_sql(sql, text, shown)
    else:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            await asyncio.to_thread(exec, text, {"__name__": "example"})
        return output.getvalue()
    return ""


@pytest.mark.usefixtures("calls")
async def test_the_page_does_what_it_says(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTIPHON_API_URL", running.url)
    monkeypatch.setenv("ANTIPHON_API_KEY", "reader")
    blocks = BLOCK.findall(PAGE.read_text())
    kinds = [kind for kind, _, _ in blocks]

    output = ""
    with duckdb.connect(config={"threads": 1}) as sql:
        for kind, text, shown in blocks:
            output += await check(kind, text, shown, running, sql)

    assert (kinds.count("console"), kinds.count("sql"), kinds.count("python")) == (4, 6, 2)
    assert sum(bool(shown) for _, _, shown in blocks) == 5
    assert "[('host', 24)]\n" in output
    assert "3 tool calls failed\n" in output
    assert not [path for path in (tmp_path / "impersonal").rglob("*") if path.is_file() and _personal(path)]


def _personal(path: Path) -> bool:
    return PERSONAL.encode() in path.read_bytes()
