"""Rest: the CPU time that the whole embedded stack takes while nobody calls, by service.

The time is that of the processes themselves, so what else runs on the machine matters little. The short
processes that the supervisor starts for its probes are counted as its own.
"""

import asyncio
from pathlib import Path

import psutil
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.supervisor.state import State, read_state

from .report import Report, Result, Servers

START_SECONDS = 400
SETTLE_SECONDS = 15  # after the start, whose work goes on for a while
SECONDS = 30
TARGET_PERCENT = 3.0
SUPERVISOR = "supervisor"


async def run(servers: Servers, report: Report) -> None:
    """Start a stack, leave it alone, and report the CPU time of each service."""
    report.step("start a stack", seconds=START_SECONDS)
    with EmbeddedStack(isolated_settings(Path(servers.folder) / "rest")) as stack:
        report.step("let it come to rest", seconds=SETTLE_SECONDS + 30)
        await asyncio.sleep(SETTLE_SECONDS)
        state = read_state(stack.settings.home)
        assert state is not None
        report.step(f"measure for {SECONDS} s", seconds=SECONDS + 60)
        before = cpu_seconds(state)
        await asyncio.sleep(SECONDS)
        after = cpu_seconds(state)
        report.step("stop the stack", seconds=180)
    used = {name: 100 * (after[name] - before[name]) / SECONDS for name in after}
    for name, percent in sorted(used.items(), key=lambda item: -item[1]):
        report.row(Result(name=f"CPU at rest: {name}", value=percent, unit="% of a core"))
    total = Result(
        name="CPU at rest: the whole stack",
        value=sum(used.values()),
        unit="% of a core",
        target=TARGET_PERCENT,
    )
    report.row(total)


def cpu_seconds(state: State) -> dict[str, float]:
    """Return the CPU seconds so far of the supervisor and of each service, with its child processes."""
    used = {SUPERVISOR: _own(psutil.Process(state.supervisor_pid), with_ended=True)}
    for service in state.services:
        if service.pid is not None:
            leader = psutil.Process(service.pid)
            family = [leader, *leader.children(recursive=True)]
            used[service.name] = sum(_own(process) for process in family)
    return used


def _own(process: psutil.Process, *, with_ended: bool = False) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = times.children_user + times.children_system if with_ended else 0.0
    return float(times.user + times.system + ended)
