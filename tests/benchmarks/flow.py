"""Flows: the time from a file to a checked flow, and to a flow bound to a session, against the YAML parser.

A call loads its flow once, in its own process; a revision is loaded once more before it is published.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import yaml

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import bind

from .report import Report, Result, Servers

FOLDER = Path(__file__).parents[2] / "flows"
FLOWS = ("booking.yaml", "survey.yaml")  # those that need no key
ROUNDS = 50
TARGET_MILLISECONDS = 100.0  # of a call that begins
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

Act = Callable[[], object]


async def run(_servers: Servers, report: Report) -> None:
    """Measure example flows."""
    for name in FLOWS:
        report.step(f"load {name} {ROUNDS} times", seconds=120)
        text = (FOLDER / name).read_text()
        flow = load_flow(text, CATALOG)
        load, bound, parsed = _medians(
            partial(load_flow, text, CATALOG), partial(bind, flow, CATALOG), partial(yaml.load, text, LOADER)
        )
        lines = text.count("\n")
        report.row(
            Result(
                name=f"{name}, {lines} lines: load and check, p50",
                value=load,
                unit="ms",
                baseline_name="the YAML parser alone",
                baseline=parsed,
                target=TARGET_MILLISECONDS,
            )
        )
        report.row(
            Result(
                name=f"{name}: bind to a session, p50",
                value=bound,
                unit="ms",
                baseline_name="the YAML parser alone",
                baseline=parsed,
            )
        )


def _medians(*acts: Act) -> list[float]:
    """Return the median of each in ms, called in turn."""
    times: list[list[float]] = [[] for _ in acts]
    for _ in range(ROUNDS):
        for act, each in zip(acts, times, strict=True):
            began = time.perf_counter_ns()
            act()
            each.append((time.perf_counter_ns() - began) / 1e6)
    return [median(each) for each in times]
