"""The three deployments of the sizing page are what its formulas give, and the charts' examples have them."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "sizing.md").read_text()
EXAMPLES = ROOT / "deploy" / "helm" / "antiphon" / "examples"
CALLS = (10, 100, 1_000)
WEEKS = 52
MINUTES_A_WEEK = 5 * 8 * 60
UNITS = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "million": 1e6, "gib": 1 << 30}
CALLS_OF_A_POD, IN_USE = 10, 0.9
DEFAULT_STREAM = 8 << 30
WORKER_MIB, CALL_MIB = 393, 133
OF_A_CALL_MINUTE = {
    "agent-worker": 9.7,
    "LiveKit": 1.2,
    "persistence": 0.8,
    "Postgres": 0.6,
    "NATS": 0.7,
}


def number(name: str) -> float:
    """Return a number of the first table, by what is before it."""
    found = re.search(rf"\*\*{name}\*\* [^|]*\| ([\d,]+)", PAGE)
    assert found, name
    return float(found[1].replace(",", ""))


E, S, D, W = map(number, "ESDW")


def row(name: str) -> list[str]:
    """Return the three cells of a row of the last table."""
    [line] = [line for line in PAGE.partition("## Three")[2].splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in line.split("|")[2:5]]


def value(cell: str) -> float:
    """Return what a cell says: its first number, with its unit."""
    found = re.match(r"([\d.,]+) ?(million|GiB|[kMGT])?", cell)
    assert found, cell
    return float(found[1].replace(",", "")) * UNITS.get((found[2] or "").lower(), 1)


def expected(calls: int) -> dict[str, float]:
    """Return what the formulas give for so many calls at once."""
    minutes, events = calls * MINUTES_A_WEEK, calls * E / 60
    warm = value(row("calls to be ready for")[CALLS.index(calls)])
    workers = math.ceil((calls + warm) / (IN_USE * CALLS_OF_A_POD))
    return {
        "call minutes a week": minutes,
        "events a second": events,
        "events a week": minutes * E,
        **{f"cores of {name}": calls * each / 60 for name, each in OF_A_CALL_MINUTE.items()},
        "stream: a week": minutes * E * S,
        "disk of Postgres for a week": minutes * E * D,
        "disk of Postgres for a year": minutes * E * D * WEEKS,
        "archive of the write-ahead log": minutes * E * W,
        "writes of Postgres": events * (D + W),
        "writes of each broker": events * S,
        "replicas of agent-worker": workers,
        "memory of the agents": (workers * WORKER_MIB + calls * CALL_MIB) * (1 << 20),
    }


@pytest.mark.parametrize("calls", CALLS)
def test_the_table_is_what_the_formulas_give(calls: int) -> None:
    for name, wanted in expected(calls).items():
        shown = value(row(name)[CALLS.index(calls)])
        assert shown == pytest.approx(wanted, rel=0.05), name


def stream_bytes(calls: int) -> int:
    found: Any = example(calls)["nats"].get("streamMaxBytes")
    return found or DEFAULT_STREAM


def example(calls: int) -> Any:
    return yaml.safe_load((EXAMPLES / f"calls-{calls}.yaml").read_text())


@pytest.mark.parametrize("calls", CALLS)
def test_the_stream_of_an_example_holds_a_week_twice(calls: int) -> None:
    assert stream_bytes(calls) >= 2 * expected(calls)["stream: a week"]


@pytest.mark.parametrize("calls", CALLS)
def test_an_example_has_enough_agent_workers(calls: int) -> None:
    values = example(calls)
    worker = values["agentWorker"]
    most = worker["autoscaling"]["maxReplicas"] if "autoscaling" in worker else worker["replicas"]

    assert worker["callsPerPod"] == CALLS_OF_A_POD
    assert most >= expected(calls)["replicas of agent-worker"]
    warm = row("calls to be ready for")[CALLS.index(calls)]
    assert values.get("fleet", {"warmCalls": 5})["warmCalls"] == value(warm)
