"""Turns: the delay from the end of speech to the first audio of the answer, by strategy and provider double.

Two callers are in two calls at the same time, one of ours and one of a plain LiveKit agent with the same
parts, and speak in turn: neither speaks while the other waits for an answer. A delay is what the caller
hears: from the last sound that is sent to the first that arrives. What carries, commits and shows the
record of our call gives way to both agents, as if it ran on another machine; the plain agent has no record.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
import psutil
from livekit import rtc
from tests.doubles.server import KEY, serve
from tests.fixtures.stack_settings import isolated_settings

from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack

from .report import Report, Result, Servers
from .turns_calls import READY_SECONDS, REGISTER_SECONDS, PlainAgent, our_call, publish
from .turns_cases import CASES, SECRET, Case, doubles

CASE_SECONDS = float(os.environ.get("BENCH_SECONDS", "10"))  # of speaking, for each case
WANTED = os.environ.get("BENCH_CASES", "")  # a part of the names, as `manual` or `Nova`
LEAST_SENTENCES = 3  # of each side, also on a slow machine
ANSWER_SECONDS = 30
AUDIBLE = 300  # of 32767; silence is below 5
MORE_MILLISECONDS = 5.0  # ours may add so much
QUIET = ("listening", "idle")
GIVE_WAY = ("nats", "persistence", "session-api", "webhook-ingest", "postgres")
LOWEST_PRIORITY = 19


async def run(servers: Servers, report: Report) -> None:
    """Measure each case, in calls of its own."""
    report.step("start a whole stack", seconds=240)
    # both workers load the model of `semantic` before the first call
    os.environ["LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE"] = "1"
    os.environ[SECRET] = KEY
    folder = Path(servers.folder)
    more: list[float] = []
    async with serve(*doubles()) as url:
        with EmbeddedStack(isolated_settings(folder / "stack")) as stack:
            status = stack.status()
            for service in status.services:
                if service.name in GIVE_WAY and service.pid is not None:
                    _give_way(service.pid)
            where = status.addresses
            plain = PlainAgent(where, folder / "plain.log")
            with plain.running():
                report.step("start the plain agent", seconds=REGISTER_SECONDS + 10)
                await publish(where, folder, url)
                await plain.registered()
                for case in [case for case in CASES if WANTED in case.name]:
                    report.step(
                        f"{case.name}: {CASE_SECONDS:g} s of sentences",
                        seconds=READY_SECONDS + CASE_SECONDS + 2 * LEAST_SENTENCES * ANSWER_SECONDS,
                    )
                    async with AsyncExitStack() as calls:
                        opened = await asyncio.gather(
                            calls.enter_async_context(our_call(where, case)),
                            calls.enter_async_context(plain.call(case.flow(url))),
                        )
                        lanes = [_Lane(case, caller) for caller in opened]
                        await _speak_in_turn(lanes)
                    for result in _rows(case, *lanes):
                        report.row(result)
                    more.append(median(lanes[0].delays) - median(lanes[1].delays))
            report.row(_more("turns: ours more than plain, mean of the cases", mean(more)))
            report.step("stop the stack", seconds=120)


def _give_way(pid: int) -> None:
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        for thread in one.threads():
            os.setpriority(os.PRIO_PROCESS, thread.id, LOWEST_PRIORITY)


@dataclass(slots=True)
class _Lane:
    """A caller, and the delays in ms of the answers to them."""

    case: Case
    caller: Caller
    delays: list[float] = field(default_factory=list)

    async def speak(self, turn: asyncio.Lock, until: float) -> None:
        """Say the sentence again and again; the first answer does not count."""
        sentence = await asyncio.to_thread(_sentence, self.case.said)
        loop = asyncio.get_running_loop()
        warm = False
        while len(self.delays) < LEAST_SENTENCES or loop.time() < until:
            await self._quiet()
            lines = len(self.caller.agent_lines)
            async with turn:
                delay = await self._delay(sentence)
            if warm:
                self.delays.append(delay)
            warm = True
            # the transcript is complete when the answer was spoken
            await self.caller.log.wait_for(lambda: len(self.caller.agent_lines) > lines, ANSWER_SECONDS)  # noqa: B023

    async def _quiet(self) -> None:
        log = self.caller.log
        if not await log.wait_for(lambda: log.state in QUIET, ANSWER_SECONDS) or log.ended:
            raise RuntimeError(f"{self.case.name}: the agent is not listening: {log.ended or log.state}")

    async def _delay(self, sentence: bytes) -> float:
        """Say the sentence and return the milliseconds until the answer is audible."""
        by_hand = self.case.strategy == "manual"
        if by_hand:
            await _ask(self.caller, "start_turn")
        await self.caller.microphone.play(sentence)
        ended = asyncio.get_running_loop().time()
        looked_at = len(self.caller.audio.chunks)
        ending = asyncio.create_task(_ask(self.caller, "end_turn")) if by_hand else None
        async with asyncio.timeout(ANSWER_SECONDS):
            while (began := _first_sound(self.caller, looked_at)) is None:  # noqa: ASYNC110 - of recorded audio
                await asyncio.sleep(0.01)
        if ending is not None:
            await ending
        return (began - ended) * 1_000


async def _speak_in_turn(lanes: list[_Lane]) -> None:
    turn = asyncio.Lock()
    until = asyncio.get_running_loop().time() + CASE_SECONDS
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(lane.speak(turn, until))


def _sentence(text: str) -> bytes:
    """Return a sentence without the silence at its end."""
    _, pcm = synthesize(text)
    samples = np.frombuffer(pcm, dtype=np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > AUDIBLE)
    return samples[: loud[-1] + 1].tobytes()


def _first_sound(caller: Caller, start: int) -> float | None:
    for chunk in caller.audio.chunks[start:]:
        if np.abs(np.frombuffer(chunk.pcm, dtype=np.int16).astype(np.int32)).max(initial=0) > AUDIBLE:
            return chunk.at
    return None


async def _ask(caller: Caller, method: str) -> None:
    [agent] = [
        participant.identity
        for participant in caller.room.remote_participants.values()
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    ]
    await caller.room.local_participant.perform_rpc(
        destination_identity=agent, method=method, payload="", response_timeout=ANSWER_SECONDS
    )


def _rows(case: Case, ours: _Lane, plain: _Lane) -> list[Result]:
    counts = f"{len(ours.delays)} and {len(plain.delays)} sentences"
    return [
        Result(
            name=f"{case.name}: end of speech to first audio, p50",
            value=median(ours.delays),
            unit="ms",
            baseline_name=f"plain livekit-agents, {counts}",
            baseline=median(plain.delays),
        ),
        _more(f"{case.name}: ours more than plain, p50", median(ours.delays) - median(plain.delays)),
    ]


def _more(name: str, milliseconds: float) -> Result:
    return Result(name=name, value=milliseconds, unit="ms", target=MORE_MILLISECONDS)
