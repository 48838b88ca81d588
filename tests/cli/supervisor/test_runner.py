"""The runner of a service goes on after errors of its own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from antiphon.chassis.settings import EXIT_BAD_SETTINGS
from antiphon.cli.errors import StackError
from antiphon.cli.stack.process import Command
from antiphon.cli.supervisor import runner
from antiphon.cli.supervisor.runner import Service, ServiceRunner
from antiphon.cli.supervisor.state import ServiceState


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(runner, "PROBE_SECONDS", 0.05)


async def _until_ready(running: ServiceRunner, restarts: int) -> None:
    async with asyncio.timeout(60):
        while not (running.state.ready and running.state.restarts >= restarts):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_restart_that_raises_is_tried_again(quick: None, tmp_path: Path) -> None:
    prepared = 0

    def prepare() -> Command:
        nonlocal prepared
        prepared += 1
        if prepared == 2:
            raise OSError("the disk is full for a moment")
        return Command((sys.executable, "-c", "import time; time.sleep(600)"), dict(os.environ), tmp_path)

    seen: list[str] = []
    service = Service("sleeper", prepare, lambda: None, (), tmp_path / "log")
    running = ServiceRunner(service, lambda state: seen.append(state.detail))
    await running.start(timeout_seconds=60)
    assert running.state.pid is not None
    os.kill(running.state.pid, 9)

    await _until_ready(running, restarts=2)

    assert any("the disk is full" in detail for detail in seen)
    await running.stop()


async def test_a_probe_that_raises_is_started_again(quick: None, tmp_path: Path) -> None:
    probes = 0

    def probe() -> str | None:
        nonlocal probes
        probes += 1
        if probes == 2:
            raise ValueError("an answer that the probe does not know")
        return None if probes < 2 or probes > 4 else "not yet"

    command = Command((sys.executable, "-c", "import time; time.sleep(600)"), dict(os.environ), tmp_path)
    states: list[bool] = []

    def changed(state: ServiceState) -> None:
        states.append(state.ready)

    running = ServiceRunner(Service("sleeper", lambda: command, probe, (), tmp_path / "log"), changed)
    await running.start(timeout_seconds=60)
    async with asyncio.timeout(60):
        while probes < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert running.state.ready
    assert False in states
    await running.stop()


async def test_a_service_with_a_wrong_setting_is_tried_once(tmp_path: Path) -> None:
    prepared = 0

    def prepare() -> Command:
        nonlocal prepared
        prepared += 1
        program = f"import sys; print('PORT is wrong'); sys.exit({EXIT_BAD_SETTINGS})"
        return Command((sys.executable, "-c", program), dict(os.environ), tmp_path)

    service = Service("misconfigured", prepare, lambda: "does not respond", (), tmp_path / "log")
    running = ServiceRunner(service, lambda _: None)
    try:
        with pytest.raises(StackError, match="PORT is wrong"):
            await running.start(timeout_seconds=60)
    finally:
        await running.stop()

    assert prepared == 1
