"""The page about adding a projection: its files, its commands and its queries, one after the other."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.fixtures.filled_log import FilledLog

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.session import FailureReason, SessionFailed

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "add-a-projection.md"
STEP = re.compile(r"(?:^`(?P<file>[^`\n]+\.py)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S)
FILE = re.compile(r"`([\w/.]+\.py)`:\Z")
SECONDS = 120.0
SHELL = {"make down", "make up ARGS=--no-call", 'eval "$(.venv/bin/antiphon env)"'}
STATUS = [sys.executable, "-m", "antiphon.persistence", "status"]
COPIED = ("services/persistence/src", "tests/contracts/strategies.py", "pyproject.toml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the page changes, which comes before the installed one."""
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (tmp_path / "tests/persistence/projections").mkdir(parents=True)
    return tmp_path


async def execute(command: list[str], checkout: Path, dsn: str, *, nats_url: str = "") -> str:
    """Run a command of the page in the copy; return what it prints."""
    path = os.pathsep.join([str(checkout / "services/persistence/src"), str(checkout)])
    environment = {**os.environ, "PYTHONPATH": path, "ANTIPHON_POSTGRES_DSN": dsn}
    environment |= {"ANTIPHON_NATS_URL": nats_url} if nats_url else {}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=checkout, env=environment, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, f"{command}: {output.decode()}"
    return output.decode()


def in_this_environment(line: str) -> list[str]:
    """Return a command of the page, for the environment of the tests."""
    words = line.removeprefix("$ ").split()
    assert words[0] == ".venv/bin/python", line
    quiet = ["-p", "no:cacheprovider"] if "pytest" in words else []
    return [sys.executable, *words[1:], *quiet]


@pytest.mark.slow
async def test_the_page_leads_from_nothing_to_a_view(
    checkout: Path,
    database: Database,
    postgres_dsn: str,
    bus: Bus,
    nats_server: NatsServer,
    new_session: "NewSession",
) -> None:
    filled = FilledLog(database)
    for number in range(5):
        await filled.put(new_session(f"call {number}").whole_call())
    lost = new_session("lost")
    ended = lost.seal(SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1))
    await filled.put([lost.requested(), ended])

    done, answers = [], []
    for step in STEP.finditer(PAGE.read_text()):
        done.append(step["kind"])
        if step["kind"] == "sql":
            answers.append([tuple(row)[1:] for row in await database.pool.fetch(step["text"])])
        else:
            await take(step, checkout, postgres_dsn, nats_server.url)

    assert answers == [[(6,)], [(6, 1)]]
    assert done.count("console") >= 3
    assert done.count("text") == 1


async def take(step: re.Match[str], checkout: Path, dsn: str, nats_url: str) -> None:
    """Do what a step of the page says, in the copy."""
    body = step["text"]
    match step["kind"]:
        case "python":
            named = FILE.search(step.string[: step.start()].rstrip()) or FILE.search(f"`{step['file']}`:")
            assert named is not None, body[:80]
            (checkout / named[1]).write_text(body)
        case "diff":
            (checkout / "step.diff").write_text(body)
            await execute(["git", "apply", "--unidiff-zero", "step.diff"], checkout, dsn)
        case "console":
            for line in body.splitlines():
                await execute(in_this_environment(line), checkout, dsn)
        case "sh":  # restarts, and sets up the shell, of a stack of its own
            assert set(body.splitlines()) <= SHELL, body
        case "text":  # a problem in the status, since no replica knows the view
            assert body in await execute(STATUS, checkout, dsn, nats_url=nats_url)
        case kind:
            raise AssertionError(f"the page has a step of an unknown kind: {kind}")
