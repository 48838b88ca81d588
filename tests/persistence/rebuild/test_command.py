"""The command `rebuild` with real processes: what it prints, and that it tells who updates the views."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog
    from tests.persistence.conftest import NewSession, Replicas

pytestmark = pytest.mark.slow


async def rebuild(dsn: str, *views: str) -> tuple[int, list[str], str]:
    """Run the command; return its exit code, the lines of its output, and its errors."""
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": dsn}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon.persistence", "rebuild", *views),
        env=environment,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode().splitlines(), err.decode()


async def test_one_line_per_view_in_the_order_in_which_they_are_given(
    filled: "FilledLog", postgres_dsn: str, new_session: "NewSession"
) -> None:
    await filled.put(new_session("a").whole_call())

    code, lines, err = await rebuild(postgres_dsn, "turns", "participants", "daily")

    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in lines[::2]] == ["turns", "participants", "daily"]
    assert lines[0].startswith("turns: 3 events in ")
    assert lines[1] == (
        "turns: no running process keeps version 1 up to date: start or restart `run` with this code"
    )


async def test_a_view_that_a_process_keeps_up_to_date_has_one_line(
    replica: "Replicas", postgres_dsn: str
) -> None:
    running = replica()
    await running.start()
    await running.until_ready(90)

    code, lines, err = await rebuild(postgres_dsn, "turns")

    assert (code, err, len(lines)) == (0, "", 1)
