"""`antiphon export` against a real log: equal to it, also after kill -9, and in little memory."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from tests.session_api.conftest import Running, buckets, livekit, put_flow, put_key, running, start
from tests.session_api.feed.conftest import KINDS, LogWriter, requested, writer

from antiphon.contracts.envelope import encode
from antiphon.contracts.events.turn import TurnSaved

__all__ = ["buckets", "livekit", "put_flow", "put_key", "running", "start", "writer"]

PROGRESS = re.compile(r"^ *\d+%  [\d,]+ events, [\d,]+/s\n", re.MULTILINE)
SECRET = "my name is Ada Lovelace"


@pytest.fixture
async def written(writer: LogWriter) -> LogWriter:
    """A log of 12 sessions with 100 events each."""
    sessions = [writer.session(f"s{number}") for number in range(12)]
    await writer.commit_all([(each, requested("booking")) for each in sessions])
    for number in range(99):
        event = (
            TurnSaved(turn=number + 1, agent_id="host", user_text=SECRET) if number % 2 else KINDS[number % 4]
        )
        await writer.commit_all([(each, event) for each in sessions])
    return writer


async def started(running: Running, *arguments: str | Path, key: str = "reader") -> Process:
    environment = {**os.environ, "ANTIPHON_API_URL": running.url, "ANTIPHON_API_KEY": key}
    command = (sys.executable, "-c", "from antiphon.cli.main import app; app()", "export")
    return await asyncio.create_subprocess_exec(
        *command, *map(str, arguments), env=environment, stdout=PIPE, stderr=PIPE
    )


async def run(running: Running, *arguments: str | Path, key: str = "reader") -> tuple[int | None, str, str]:
    """Run the command; return its code and its output."""
    process = await started(running, *arguments, key=key)
    async with asyncio.timeout(120):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), PROGRESS.sub("", errors.decode())


def lines_of(written: LogWriter) -> list[bytes]:
    return [encode(envelope) for envelope in written.log]


def by_position(lines: Sequence[bytes | str]) -> list[Any]:
    return sorted(map(json.loads, lines), key=lambda event: int(event["position"]))


def parquet_rows(folder: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(config={"threads": 1}) as connection:
        return connection.sql(
            f"select position, session_id, sequence, event_id, type, user_text "
            f"from read_parquet('{folder}/**/*.parquet', union_by_name = true) order by position"
        ).fetchall()


def log_rows(written: LogWriter) -> list[tuple[Any, ...]]:
    rows = []
    for envelope in written.log:
        data = json.loads(bytes(envelope.data))
        values = (envelope.position, envelope.subject, envelope.sequence, envelope.id, envelope.type)
        rows.append((*values, data.get("user_text")))
    return rows


async def test_both_formats_are_the_log(written: LogWriter, running: Running, tmp_path: Path) -> None:
    file, folder = tmp_path / "events.ndjson", tmp_path / "events"

    ndjson = await run(running, "--format", "ndjson", "--output", file)
    parquet = await run(running, "--format", "parquet", "--output", folder)
    printed = await run(running, "--format", "ndjson", "--output", "-", "--type", "tool.started")

    assert ndjson == (0, "", f"1,200 events exported to {file}\n")
    assert by_position(file.read_bytes().splitlines()) == by_position(lines_of(written))
    assert parquet == (0, "", f"1,200 events exported to {folder}\n")
    assert parquet_rows(folder) == log_rows(written)
    assert sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet")) == 1200
    assert printed[0] == 0
    tools = [line for line in lines_of(written) if json.loads(line)["type"] == "tool.started"]
    assert by_position(printed[1].splitlines()) == by_position(tools)


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
async def test_kill_9_again_and_again_changes_nothing(
    written: LogWriter, running: Running, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.session_api.feed import export as export_module

    monkeypatch.setattr(export_module, "STEP", 32)
    output = tmp_path / "out"
    step = running.dependencies.hubs.reader.step

    async def slowly(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(0.03)
        return await step(*arguments, **named)

    monkeypatch.setattr(running.dependencies.hubs.reader, "step", slowly)
    # as small as the log: else the first checkpoint would be the last
    small = "import antiphon.cli.export.parquet as p, antiphon.cli.export.ndjson as n;"
    small += "p.ParquetFolder.__init__.__kwdefaults__['flush_events'] = 50; n.SYNC_BYTES = 9000;"
    environment = {**os.environ, "ANTIPHON_API_URL": running.url, "ANTIPHON_API_KEY": "reader"}
    command = (sys.executable, "-c", f"{small} from antiphon.cli.main import app; app()", "export")
    options = ("--format", form, "--output", str(output), "--resume")
    manifest = output / "_manifest.ndjson" if form == "parquet" else tmp_path / "out.manifest"
    killed = 0
    for checkpoints in (1, 4, 9, 14):
        process = await asyncio.create_subprocess_exec(*command, *options, env=environment, stderr=PIPE)
        async with asyncio.timeout(120):
            while process.returncode is None:
                if manifest.exists() and manifest.read_bytes().count(b"\n") > checkpoints:
                    process.send_signal(signal.SIGKILL)
                    killed += await process.wait() == -signal.SIGKILL
                    break
                await asyncio.sleep(0.005)
    assert killed >= 2

    code, _, errors = await run(running, *options)

    assert code == 0, errors
    if form == "parquet":
        assert parquet_rows(output) == log_rows(written)
        assert not list(output.rglob("*.tmp"))
    else:
        assert by_position(output.read_bytes().splitlines()) == by_position(lines_of(written))
    assert not (tmp_path / "out.partial").exists()


async def test_sigterm_and_the_progress_without_a_terminal(
    written: LogWriter, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.session_api.feed import export as export_module

    monkeypatch.setattr(export_module, "STEP", 32)
    step, steps = running.dependencies.hubs.reader.step, iter(range(100_000))

    async def halting(*arguments: Any, **named: Any) -> Any:
        if next(steps) == 8:
            await asyncio.sleep(60)
        return await step(*arguments, **named)

    monkeypatch.setattr(running.dependencies.hubs.reader, "step", halting)
    options = ("--format", "ndjson", "--output", tmp_path / "out")
    process = await started(running, *options)
    assert process.stderr is not None
    async with asyncio.timeout(90):
        lines = [(await process.stderr.readline()).decode() for _ in range(2)]  # nothing arrives any more
        process.send_signal(signal.SIGTERM)
        rest = (await process.communicate())[1].decode()
    monkeypatch.setattr(running.dependencies.hubs.reader, "step", step)
    resumed = await run(running, *options, "--resume")

    assert all(map(PROGRESS.fullmatch, lines)), lines
    assert process.returncode == 143
    assert PROGRESS.sub("", rest) == "stopped: the same command with --resume goes on\n"
    assert resumed[0] == 0
    assert by_position((tmp_path / "out").read_bytes().splitlines()) == by_position(lines_of(written))


async def test_resume_adds_what_is_new(written: LogWriter, running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    await run(running, "--format", "parquet", "--output", folder)
    await written.commit(written.session("late"), *KINDS)

    refused = await run(running, "--format", "parquet", "--output", folder)
    added = await run(running, "--format", "parquet", "--output", folder, "--resume")
    other = await run(running, "--format", "parquet", "--output", folder, "--resume", "--without-pii")

    assert refused[0] == 1
    assert "pass --resume" in refused[2]
    assert added == (0, "", f"4 events exported to {folder}, 1,204 in all\n")
    assert parquet_rows(folder) == log_rows(written)
    assert other[0] == 1
    assert "began with other options (without --without-pii)" in other[2]


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
async def test_the_key_of_another_tenant_changes_nothing(
    writer: LogWriter, running: Running, tmp_path: Path, form: str
) -> None:
    session, output = writer.session("s"), tmp_path / "out"
    options = ("--format", form, "--output", output)
    await writer.commit(session, requested("booking"), KINDS[0])
    await run(running, *options)
    await writer.commit(session, *KINDS)

    refused = await run(running, *options, "--resume", key="foreign")
    added = await run(running, *options, "--resume")

    assert refused[0] == 1
    assert "this export has the events of tenant default" in refused[2]
    assert added == (0, "", f"4 events exported to {output}, 6 in all\n")


async def test_a_refused_resume_leaves_the_file_in_place(
    writer: LogWriter, running: Running, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = ("--format", "ndjson", "--output", output)
    await writer.commit(writer.session("s"), requested("booking"), KINDS[0])
    await run(running, *options)
    before = output.read_bytes()

    refused = await run(running, *options, "--resume", key="unknown")

    assert refused[0] == 1
    assert output.read_bytes() == before
    assert not (tmp_path / "out.partial").exists()


async def test_nothing_personal_is_in_the_bytes(written: LogWriter, running: Running, tmp_path: Path) -> None:
    for form in ("ndjson", "parquet"):
        code, _, errors = await run(running, "--format", form, "--output", tmp_path / form, "--without-pii")
        assert code == 0, errors

    rows = (tmp_path / "ndjson").read_text().splitlines()
    turns = [event["data"] for event in map(json.loads, rows) if event["type"] == "turn.saved"]
    assert len(rows) == 1200
    assert {turn["agent_id"] for turn in turns} == {"host"}
    for path in [tmp_path / "ndjson", *(tmp_path / "parquet").rglob("*.parquet")]:
        assert SECRET.encode() not in path.read_bytes()
        if path.suffix == ".parquet":
            assert SECRET not in str(pq.ParquetFile(path).read().to_pylist())
    turns_file = next((tmp_path / "parquet").rglob("type=turn.saved/*.parquet"))
    assert not {"user_text", "assistant_text"} & set(pq.read_schema(turns_file).names)


async def test_days_and_types_select(written: LogWriter, running: Running, tmp_path: Path) -> None:
    day = written.log[0].time.date().isoformat()
    options = ("--format", "ndjson", "--since", day, "--type", "turn.saved", "--type", "session.dispatched")

    code, _, errors = await run(running, *options, "--output", tmp_path / "some")
    none = await run(running, "--format", "ndjson", "--until", "2020-01-01", "--output", tmp_path / "none")

    assert code == 0, errors
    types = [json.loads(line)["type"] for line in (tmp_path / "some").read_text().splitlines()]
    assert set(types) == {"turn.saved", "session.dispatched"}
    assert none == (0, "", f"0 events exported to {tmp_path / 'none'}\n")
    assert (tmp_path / "none").read_bytes() == b""


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
async def test_a_refused_export_does_not_block_the_right_one(
    writer: LogWriter, running: Running, tmp_path: Path, form: str
) -> None:
    await writer.commit(writer.session("s"), requested("booking"), KINDS[0])
    options = ("--format", form, "--output", tmp_path / "out")

    refused = await run(running, *options, "--type", "nope")
    unauthorized = await run(running, *options, key="unknown")
    exported = await run(running, *options, "--type", "session.requested")

    assert (refused[0], unauthorized[0]) == (1, 1)
    assert "takes one of" in refused[2]
    assert exported == (0, "", f"1 events exported to {tmp_path / 'out'}\n")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--format", "parquet", "--output", "-"), 1, "standard output takes --format ndjson"),
        (("--format", "csv", "--output", "x"), 2, "ndjson"),
        (("--format", "ndjson", "--output", "x", "--since", "yesterday"), 2, "takes a day, as 2026-01-31"),
        (("--format", "ndjson", "--output", "x", "--until", "2026-01-31T09:30:00"), 2, "needs an offset"),
        (
            ("--format", "ndjson", "--output", "x", "--since", "0001-01-01T00:00:00+05:00"),
            2,
            "years 2 to 9998",
        ),
        (("--format", "ndjson", "--output", "-", "--type", "turn.save"), 1, "did you mean turn.saved"),
    ],
)
async def test_a_mistake_is_explained(
    running: Running, options: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    found = await run(running, *(str(tmp_path / each) if each == "x" else each for each in options))

    assert found[0] == code
    assert said in " ".join(found[2].replace("│", " ").split())


async def test_without_pyarrow_the_extra_is_named(running: Running, tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['pyarrow'] = None; from antiphon.cli.main import app; app()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", blocked, "export", "--format", "parquet", "--output", str(tmp_path / "x")),
        stderr=PIPE,
    )
    _, errors = await process.communicate()

    assert process.returncode == 1
    assert b"pip install pyarrow" in errors
    assert not (tmp_path / "x").exists()
