"""`antiphon events` on a real session-api."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import typer
from tests.session_api.conftest import Running, buckets, livekit, put_flow, put_key, running, start
from tests.session_api.feed.conftest import READY, TURN, LogWriter, keys_of, requested, writer

from antiphon.cli.commands.events import json_line, place_of
from antiphon.client import SessionEvent
from antiphon.contracts.envelope import committed, seal

__all__ = ["buckets", "livekit", "put_flow", "put_key", "running", "start", "writer"]

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
RUN = ("-c", "from antiphon.cli.main import app; app()", "events")


def variables(url: str) -> dict[str, str]:
    return {**os.environ, "ANTIPHON_API_URL": url, "ANTIPHON_API_KEY": "reader", "COLUMNS": "300"}


@asynccontextmanager
async def command(
    url: str, *arguments: str, background: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command, and kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *RUN,
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=variables(url),
        limit=1 << 20,
        # a shell starts background jobs with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(url: str, *arguments: str, code: int = 0) -> tuple[list[str], str]:
    """Run the command to its end; return its lines and what it wrote on stderr."""
    async with asyncio.timeout(90), command(url, *arguments) as process:
        output, errors = await process.communicate()
    assert process.returncode == code, errors.decode()
    return output.decode().splitlines(), errors.decode()


def cursor_of(errors: str) -> str:
    return errors.strip().rpartition("go on with --after ")[2]


async def test_lines_have_time_session_type_and_summary(running: Running, writer: LogWriter) -> None:
    one, two = writer.session("a"), writer.session("b")
    await writer.commit(one, requested("booking"), TURN)
    await writer.commit(two, requested("support"))

    lines, errors = await run(running.url)
    assert len(lines) == 3
    assert f"  …{one[-6:]}     2  turn.saved " in lines[1]
    assert "“a table” → host: “Gladly.”" in lines[1]
    assert lines[0].startswith(f"{datetime.now(UTC):%Y-}")
    await writer.commit(two, READY)
    more, _ = await run(running.url, "--after", cursor_of(errors))
    assert [two[-6:] in line and "agent.ready" in line for line in more] == [True]
    none, again = await run(running.url, "--since", "now", "--family", "turn")
    assert none == []
    assert cursor_of(again)


async def test_filters_and_json(running: Running, writer: LogWriter) -> None:
    one, two = writer.session("a"), writer.session("b")
    await writer.commit(one, requested("booking"), TURN, READY)
    await writer.commit(two, requested("support"), TURN)

    async def found(*arguments: str) -> list[tuple[str, int]]:
        events = [json.loads(line) for line in (await run(running.url, "--json", *arguments))[0]]
        return [(event["subject"], event["sequence"]) for event in events]

    assert sorted(await found()) == sorted(keys_of(writer.log))
    assert await found("--flow", "booking", "--type", "turn.saved", "--type", "agent.ready") == [
        (one, 2),
        (one, 3),
    ]
    assert await found("--session", two, "--since", "15m") == [(two, 1), (two, 2)]
    _, errors = await run(running.url, "--type", "turn.save", code=1)
    assert "did you mean turn.saved?" in errors


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
async def test_follow_prints_new_events_and_the_cursor_at_its_end(
    running: Running, writer: LogWriter, sent: signal.Signals, code: int
) -> None:
    one = writer.session("a")
    await writer.commit(one, READY)
    async with asyncio.timeout(150), command(running.url, "--follow", "--json") as process:
        assert process.stdout is not None
        first = json.loads(await process.stdout.readline())
        await writer.commit(one, TURN)
        second = json.loads(await process.stdout.readline())
        process.send_signal(sent)
        _, errors = await process.communicate()
    await writer.commit(one, READY)
    rest, _ = await run(running.url, "--json", "--after", cursor_of(errors.decode()))

    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert process.returncode == code
    assert "Traceback" not in errors.decode()
    assert [json.loads(line)["sequence"] for line in rest] == [3]


async def test_sigterm_ends_a_background_job_too(running: Running, writer: LogWriter) -> None:
    await writer.commit(writer.session("a"), READY)
    async with asyncio.timeout(90), command(running.url, "--follow", background=True) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()

    assert process.returncode == 143
    assert "Traceback" not in errors.decode()
    assert cursor_of(errors.decode())


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (None, {"after": None}),
        ("start", {"after": "start"}),
        ("now", {"after": "now"}),
        ("15m", {"since": datetime(2026, 11, 21, 9, 15, tzinfo=UTC)}),
        ("2d", {"since": datetime(2026, 11, 19, 9, 30, tzinfo=UTC)}),
        ("2026-11-21T09:30:00Z", {"since": NOW}),
    ],
)
def test_places(since: str | None, expected: dict[str, Any]) -> None:
    assert place_of(since, None, NOW) == expected


@pytest.mark.parametrize(
    ("since", "after"),
    [
        ("yesterday", None),
        ("now", "c"),
        ("999999d", None),
        ("0001-01-01", None),
        ("9999-12-31T23:59:59", None),
    ],
)
def test_other_places_are_refused(since: str, after: str | None) -> None:
    with pytest.raises(typer.BadParameter):
        place_of(since, after, NOW)


def test_json_is_ascii_and_means_the_same() -> None:
    text = "Grüße \x9b\u202e 🙂"
    event = TURN.__class__(turn=1, agent_id="host", user_text=text)
    envelope = seal(event, id="1", session_id="s", tenant="t", producer="p", producerseq=1, time=NOW)

    line = json_line(SessionEvent(committed(envelope, 1, 1))).plain

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["data"]["user_text"] == text
