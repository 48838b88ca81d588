"""The benchmark command ends, even if a benchmark fails or hangs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import psutil
import pytest
from tests.benchmarks import run
from tests.benchmarks.report import Result, Servers, Step
from tests.benchmarks.watch import StepFailed, watch

ROOT = Path(__file__).parents[2]
NOWHERE = Servers("nats://127.0.0.1:1", "postgresql://127.0.0.1:1/none", "/nonexistent")
PLANTED = """
import asyncio, subprocess, sys, time
from tests.benchmarks.report import Result

async def run(servers, report):
    report.step("first", seconds=30)
    report.row(Result(name="figure", value=2.0, unit="ms", baseline_name="other", baseline=4.0))
    report.step("second", seconds={seconds})
{second}
"""
IGNORE_CANCELLATION = """
while True:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        pass
"""
CHILD = 'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", {name!r}])\n'

Plant = Callable[..., str]


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Write a benchmark with the given second step; return the name of its module."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def plant(second: str, seconds: float = 30) -> str:
        text = PLANTED.format(second=indent(second, "    "), seconds=seconds)
        (tmp_path / "planted.py").write_text(text)
        return "planted"

    return plant


def test_steps_and_figures_arrive_in_order(plant: Plant) -> None:
    seen = list(watch(plant("pass"), NOWHERE))

    assert [message.name for message in seen] == ["import the code", "first", "figure", "second", "end"]
    (result,) = [message for message in seen if isinstance(message, Result)]
    assert result.ratio == 0.5


@pytest.mark.parametrize(
    ("second", "seconds", "why"),
    [
        (IGNORE_CANCELLATION, 0.5, "did not end within 0.5 s"),
        ("time.sleep(60)", 0.5, "did not end within 0.5 s"),
        ("raise ValueError", 30, "ended the process with code 1"),
        ("sys.exit(3)", 30, "ended the process with code 3"),
    ],
)
def test_a_step_that_fails_is_named(plant: Plant, second: str, seconds: float, why: str) -> None:
    seen: list[object] = []
    with pytest.raises(StepFailed, match=f"the step “second” {why}"):
        seen.extend(watch(plant(second, seconds), NOWHERE))


def test_figures_before_a_failure_are_kept(plant: Plant) -> None:
    messages = watch(plant("raise ValueError"), NOWHERE)

    assert isinstance(next(m for m in messages if not isinstance(m, Step)), Result)
    with pytest.raises(StepFailed):
        list(messages)


@pytest.mark.parametrize(("ending", "seconds"), [("pass", 30), ("time.sleep(60)", 1)])
def test_no_process_is_left(plant: Plant, tmp_path: Path, ending: str, seconds: float) -> None:
    name = str(tmp_path)
    try:
        list(watch(plant(CHILD.format(name=name) + ending, seconds), NOWHERE))
    except StepFailed:
        assert ending != "pass"

    left = [p for p in psutil.process_iter() if name in _arguments(p)]
    assert psutil.wait_procs(left, timeout=10)[1] == []


def test_a_failed_benchmark_fails_the_command_after_the_others(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = plant("raise ValueError")
    (tmp_path / "sound.py").write_text(PLANTED.format(second="    pass", seconds=30))
    monkeypatch.setattr(run, "BENCHMARKS", {"broken": module, "sound": "sound"})
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "_servers", _no_servers)

    assert run.main([]) == 1

    out, err = capsys.readouterr()
    assert out.count("figure") == 2
    assert "] sound: second (at most 30 s)" in err
    assert err.splitlines()[-1] == "broken failed: the step “second” ended the process with code 1"


@contextmanager
def _no_servers(progress: Callable[[str], None]) -> Iterator[Servers]:
    yield NOWHERE


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
