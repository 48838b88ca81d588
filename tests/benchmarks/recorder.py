"""Recorder: the cost of an event on the voice loop, on which the pump publishes to a real broker.

The tail of such short times contains noise of the machine. Plain Python work of the same length, alternating
with ours, is the baseline that shows the noise; the CPU time of the thread excludes other processes.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.testing import fake_job_context

from antiphon.chassis.bus import Bus
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.recorder import Recording
from antiphon.recorder.outbox import BusLink, Outbox, SessionWriter

from .report import Report, Result, Servers

ROUNDS = 5_000
PAUSE_SECONDS = 0.001  # events arrive one at a time, between other work of the loop
TARGET_MICROSECONDS = 20.0

WRITTEN: tuple[Event, ...] = (
    AgentStateChanged(old_state="listening", new_state="thinking"),
    TurnSaved(
        turn=3,
        agent_id="host",
        user_text="i would like to book a table for two",
        assistant_text="A table for two. Which day, and at what time?",
        assistant_text_generated="A table for two. Which day, and at what time?",
        metrics={"transcription_delay": 0.03, "end_of_turn_delay": 0.2, "e2e_latency": 0.41},
    ),
)
EMITTED: tuple[tuple[Any, Any], ...] = (
    ("user_state_changed", UserStateChangedEvent(old_state="listening", new_state="speaking")),
    ("user_input_transcribed", UserInputTranscribedEvent(transcript="tomorrow at seven", is_final=True)),
    ("agent_state_changed", AgentStateChangedEvent(old_state="listening", new_state="thinking")),
)

Act = Callable[[], object]
Cost = tuple[float, float]  # µs of wall time, and µs of CPU time


async def run(servers: Servers, report: Report) -> None:
    """Measure writing to the outbox, and a session's emit with the recorder on it."""
    report.step("make the streams", seconds=30)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    await bus.ensure()
    await bus.close()
    link = BusLink(partial(Bus.connect, servers.nats_url, name="recorder"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            report.step(f"write {ROUNDS} events, plain work between them", seconds=180)
            for result in _results("recorder: an event written down", *await _writing(Path(folder), link)):
                report.row(result)
            report.step(f"emit {ROUNDS} recorded events, plain work between them", seconds=180)
            for result in _results(
                "recorder: a session's emit, recorded", *await _emitting(Path(folder), link)
            ):
                report.row(result)
        finally:
            await link.close()


async def _writing(folder: Path, link: BusLink) -> tuple[list[Cost], list[Cost]]:
    outbox = Outbox(folder, link, job_id="AJ_writing")
    outbox.start()
    writer = _writer(outbox, "writing")
    costs = await _compare([partial(writer.write, event) for event in WRITTEN])
    assert await outbox.close(60)
    return costs


async def _emitting(folder: Path, link: BusLink) -> tuple[list[Cost], list[Cost]]:
    session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
    with fake_job_context(job_id="AJ_emitting") as ctx:
        outbox = Outbox(folder, link, job_id=ctx.job.id)
        recording = Recording(ctx, outbox, _writer(outbox, "emitting"), link)
        recording.start()
        recording.attach(session)
        costs = await _compare([partial(session.emit, name, event) for name, event in EMITTED])
        assert await recording.finish(60)
    return costs


def _writer(outbox: Outbox, name: str) -> SessionWriter:
    return outbox.writer(named_session_id("default", f"benchmark {name} {time.time_ns()}"), "default")


async def _compare(acts: Sequence[Act]) -> tuple[list[Cost], list[Cost]]:
    """Return the costs of the acts, and of plain work of the same length between them."""
    first = sorted([await _time_alone(acts[number % len(acts)]) for number in range(500)])
    work = _plain_work(first[250][0])
    costs, plain = [], []
    for number in range(ROUNDS):
        costs.append(await _time_alone(acts[number % len(acts)]))
        plain.append(await _time_alone(work))
    return costs, plain


async def _time_alone(act: Act) -> Cost:
    await asyncio.sleep(PAUSE_SECONDS)
    return _time(act)


def _plain_work(microseconds: float) -> Act:
    numbers = range(10_000)
    one = min(_time(partial(sum, numbers))[0] for _ in range(20)) / len(numbers)
    return partial(sum, range(int(microseconds / one)))


def _time(act: Act) -> Cost:
    began, worked = time.perf_counter_ns(), time.thread_time_ns()
    act()
    worked, ended = time.thread_time_ns() - worked, time.perf_counter_ns()
    return (ended - began) / 1000, worked / 1000


def _results(name: str, costs: list[Cost], plain: list[Cost]) -> list[Result]:
    def at(share: float, measure: int, label: str, target: float | None) -> Result:
        place = int(ROUNDS * share)
        return Result(
            name=f"{name}, {label}",
            value=sorted(cost[measure] for cost in costs)[place],
            unit="µs",
            baseline_name="plain Python work",
            baseline=sorted(cost[measure] for cost in plain)[place],
            target=target,
        )

    return [
        at(0.50, 0, "p50", None),
        at(0.99, 0, "p99", TARGET_MICROSECONDS),
        at(0.99, 1, "p99 of processor time", TARGET_MICROSECONDS),
    ]
