"""Each Linux-only call and its fallback."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from antiphon.cli.stack import linux


@pytest.mark.parametrize("is_linux", [True, False])
async def test_exit_of_a_child_is_awaited(is_linux: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "LINUX", is_linux)
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])  # noqa: ASYNC220

    async with asyncio.timeout(30):
        assert await linux.wait_for_exit(process) == 3


def test_fallbacks_use_nothing_of_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(linux, "LINUX", False)

    assert linux.die_with_parent(signal.SIGTERM) is None
    assert linux.working_directory_argument(tmp_path) == str(tmp_path)
