"""`persistence verify --log` with real processes: what an operator sees, and the exit codes."""

import asyncio
import json
import os
import pty
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.database import Database
from antiphon.persistence.verify.difference import Difference, LogReport, render

if TYPE_CHECKING:
    from tests.persistence.conftest import SampleSession
    from tests.persistence.verify.conftest import Committer

pytestmark = pytest.mark.slow


async def verify(dsn: str, *arguments: str, stderr: int = PIPE) -> tuple[int, str, str]:
    """Run the command; return its exit code and what it printed."""
    environment = {**os.environ, "ANTIPHON_POSTGRES_DSN": dsn}
    command = (sys.executable, "-m", "antiphon.persistence", "verify", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=stderr)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), (err or b"").decode()


async def test_a_log_without_differences(log: "Committer", postgres_dsn: str) -> None:
    code, out, _ = await verify(postgres_dsn, "--log")

    assert code == 0
    assert out.startswith("18 events verified in ")
    assert out.endswith("No difference.\n")


async def test_differences_are_listed_and_the_exit_code_is_1(
    log: "Committer", database: Database, postgres_dsn: str, calls: list["SampleSession"]
) -> None:
    await database.pool.execute("update event_log set tenant = 'acme' where position = 70")

    code, out, _ = await verify(postgres_dsn, "--log", "--heads")
    as_json, document, _ = await verify(postgres_dsn, "--log", "--json")

    assert code == as_json == 1
    assert f"session {calls[0].session_id}, sequence 3" in out
    assert "tenant: expected default, found acme" in out
    assert "partition      position        events  chain" in out
    assert out.endswith("2 differences.\n")
    report = json.loads(document)
    assert (report["ok"], report["difference_count"], report["verified"]) == (False, 2, 18)
    assert report["differences"][1] == {
        "kind": "column",
        "text": "a column does not agree with the envelope",
        "partition": calls[0].partition,
        "position": 70,
        "session_id": calls[0].session_id,
        "sequence": 3,
        "field": "tenant",
        "expected": "default",
        "found": "acme",
    }
    assert len(report["heads"]) == 16


async def test_heads_that_were_kept_elsewhere_find_a_rewritten_log(
    log: "Committer", database: Database, postgres_dsn: str, tmp_path: Path, calls: list["SampleSession"]
) -> None:
    kept = tmp_path / "heads.json"
    _, document, _ = await verify(postgres_dsn, "--log", "--json")
    kept.write_text(document)
    await log.commit([calls[0].turn(7)])
    assert (await verify(postgres_dsn, "--log", "--against", str(kept)))[0] == 0
    # Everything again, from the same events: a log that is consistent in itself.
    await database.pool.execute("truncate event_log, checkpoints")
    log.reached.clear()
    await log.commit([calls[0].turn(8)])
    assert (await verify(postgres_dsn, "--log"))[0] == 0

    code, out, _ = await verify(postgres_dsn, "--log", "--against", str(kept))

    assert code == 1
    assert "not the one whose head was kept elsewhere" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "no view nothing; the views are sessions, turns"),
        (("--log", "turns"), "--log stands alone"),
        (("turns", "--heads"), "need --log"),
        (("--log", "--since", "yesterday"), "write it as 2026-01-31T00:00:00Z"),
        (("--log", "--since", "2026-01-31T00:00:00"), "has no time zone"),
        (("--log", "--since", "2999-01-31T00:00:00Z"), "is in the future"),
        (("turns", "--since", "2999-01-31T00:00:00Z"), "is in the future"),
        (("--nothing",), "Usage: python -m antiphon.persistence verify"),
        (("--log", "--tenant", "No Tenant"), "is not the name of a tenant"),
        (("--log", "--against", "nothing.json"), "nothing.json cannot be read: No such file"),
        (("--log", "--against", "/dev/null"), "has no heads: give the output of `verify --log --json`"),
        (("--log", "--against", "x", "--since", "2026-01-31T00:00:00Z"), "needs all of the log"),
    ],
)
async def test_options_that_make_no_sense_exit_with_2(arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await verify("postgresql://nobody@127.0.0.1:1/nothing", *arguments)

    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
    assert "─" not in err


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        (range(0), "has no head of partitions 0, 1, 2,"),
        (range(15), "has no head of partitions 15: give the whole output of `verify --log --json`"),
        (range(17), "has other partitions too"),
        ([*range(16), 3], "has other partitions too"),
    ],
)
async def test_heads_of_a_part_prove_nothing(partitions: Iterable[int], words: str, tmp_path: Path) -> None:
    heads = [
        {"partition": number, "position": 0, "events": 0, "chained_after": None, "chain": None}
        for number in partitions
    ]
    kept = tmp_path / "heads.json"
    kept.write_text(json.dumps({"heads": heads}))

    code, _, err = await verify("postgresql://nobody@127.0.0.1:1/x", "--log", "--against", str(kept))

    assert code == 2
    assert words in " ".join(err.split())


async def test_a_tenant_without_events_is_refused(log: "Committer", postgres_dsn: str) -> None:
    known = await verify(postgres_dsn, "--log", "--tenant", "default")
    code, out, err = await verify(postgres_dsn, "--log", "--tenant", "nosuch")

    assert known[0] == 0
    assert (code, out) == (2, "")
    assert err == "The log has no events of tenant nosuch: nothing was verified.\n"


def test_counts_have_separators_and_one_difference_is_one() -> None:
    report = LogReport(None, None, verified=24_701, uncovered=1_200, erased=3_400, seconds=2.0)
    assert render(report, heads=False) == (
        "24,701 events verified in 2.0 s, 12,350 per second.\n"
        "1,200 events are from before the chain and not covered by it: only their columns and sequences were "
        "compared.\n"
        "3,400 erased events: only their hashes are left, and were verified.\n"
        "No difference."
    )
    report.add(Difference("hash", "changed", 3))
    assert render(report, heads=False).endswith("\n1 difference.")
    report.difference_count = 2_345
    assert render(report, heads=False).endswith("\n2,345 differences, the first 1 listed.")


async def test_a_database_that_cannot_be_read_exits_with_3(empty_dsn: str) -> None:
    unmigrated = await verify(empty_dsn, "--log")
    unreachable = await verify("postgresql://nobody@127.0.0.1:1/nothing", "--log")

    assert (unmigrated[0], unreachable[0]) == (3, 3)
    assert "migrate" in unmigrated[2]
    assert "Postgres did not answer" in unreachable[2]


async def test_a_terminal_shows_the_progress(log: "Committer", postgres_dsn: str) -> None:
    ours, theirs = pty.openpty()
    try:
        code, _, _ = await verify(postgres_dsn, "--log", stderr=theirs)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert code == 0
    assert "event log" in shown
    assert "events" in shown
