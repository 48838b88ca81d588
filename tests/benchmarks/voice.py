"""Voice: the longest pause of the call's loop while the offline voice hears and speaks.

Both run in a thread, so the loop goes on as long as they do not hold the GIL. The baseline is the same loop
with nothing to do for as long, alternating with ours: it shows the noise of the machine. The time of a decode
is compared with that of PocketSphinx's own binding, which holds the GIL.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pocketsphinx
from livekit import rtc

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.phrase import to_grammar
from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.agent_worker.providers.sphinx import SAMPLE_RATE, Recogniser
from antiphon.agent_worker.providers.sphinx_stt import SphinxSTT

from .report import Report, Result, Servers

FLOW = Path(__file__).parents[2] / "flows" / "booking.yaml"
HEARD = (
    "hello",
    "i would like to book a table for two",
    "tomorrow at seven",
    "on friday at half past eight",
    "may i speak to the manager",
    "thank you good bye",
    "what is the weather like in paris today",
)
SPOKEN = "A table for two, tomorrow at seven. Shall I book it? Say yes please, or no thank you."
ROUNDS = 5
TICK_SECONDS = 0.001
TARGET_MILLISECONDS = 5.0

Act = Callable[[], Awaitable[object]]


async def run(_servers: Servers, report: Report) -> None:
    """Measure the pauses of the loop, and the time of a decode."""
    report.step("load the recogniser", seconds=60)
    grammar = to_grammar(load_flow(FLOW, CATALOG))
    plugin = SphinxSTT(Recogniser(), grammar=grammar, is_sentence=lambda _: True)
    binding = pocketsphinx.Decoder(lm=None, cmn="batch", bestpath=False, loglevel="FATAL")
    binding.add_jsgf_string("flow", grammar)
    binding.activate_search("flow")
    utterances = [_utterance(text) for text in HEARD]
    await plugin.recognize([utterances[0]])

    report.step(f"decode {ROUNDS * len(utterances)} utterances", seconds=120)
    acts = [partial(plugin.recognize, [utterance]) for utterance in utterances]
    report.row(_pause("hearing: longest pause of the loop in a decode, p50", await _pauses(acts)))

    report.step("decode them with PocketSphinx's own binding too", seconds=120)
    report.row(await _decode_times(plugin, binding, utterances))

    report.step("speak", seconds=60)
    speak = partial(asyncio.to_thread, synthesize, SPOKEN)
    report.row(_pause("speaking: longest pause of the loop, p50", await _pauses([speak] * len(HEARD))))


def _utterance(text: str) -> rtc.AudioFrame:
    rate, pcm = synthesize(text)
    quiet = bytes(rate)  # half a second
    sound = quiet + pcm + quiet
    resampler = rtc.AudioResampler(rate, SAMPLE_RATE)
    spoken = rtc.AudioFrame(sound, rate, 1, len(sound) // 2)
    return rtc.combine_audio_frames([*resampler.push(spoken), *resampler.flush()])


async def _pauses(acts: Sequence[Act]) -> tuple[list[float], list[float]]:
    """Return the longest pause of the loop, in ms, in each act, and in idle times of the same lengths."""
    ours, idle = [], []
    for act in list(acts) * ROUNDS:
        pause, seconds = await _longest_pause(act)
        ours.append(pause)
        idle.append((await _longest_pause(partial(asyncio.sleep, seconds)))[0])
    return ours, idle


async def _longest_pause(act: Act) -> tuple[float, float]:
    pauses = [0.0]

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            pauses.append(time.perf_counter() - began - TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(3 * TICK_SECONDS)
    began = time.perf_counter()
    await act()
    seconds = time.perf_counter() - began
    await asyncio.sleep(3 * TICK_SECONDS)  # a pause is noted when it is over
    ticking.cancel()
    return max(pauses) * 1_000, seconds


async def _decode_times(plugin: SphinxSTT, binding: Any, utterances: list[rtc.AudioFrame]) -> Result:
    ours, theirs = [], []
    for utterance in utterances * ROUNDS:
        ours.append(await _milliseconds(partial(plugin.recognize, [utterance])))
        decode = partial(_decode_with, binding, bytes(utterance.data))
        theirs.append(await _milliseconds(partial(asyncio.to_thread, decode)))
    return Result(
        name="hearing: end of speech to text, p50",
        value=median(ours),
        unit="ms",
        baseline_name="PocketSphinx's binding",
        baseline=median(theirs),
        target=1.1,
        compared="ratio",
    )


def _decode_with(binding: Any, pcm: bytes) -> None:
    binding.start_utt()
    binding.process_raw(pcm, full_utt=True)
    binding.end_utt()
    binding.hyp()


async def _milliseconds(act: Act) -> float:
    began = time.perf_counter()
    await act()
    return (time.perf_counter() - began) * 1_000


def _pause(name: str, pauses: tuple[list[float], list[float]]) -> Result:
    ours, idle = pauses
    return Result(
        name=name,
        value=median(ours),
        unit="ms",
        baseline_name="with nothing to do",
        baseline=median(idle),
        target=TARGET_MILLISECONDS,
    )
