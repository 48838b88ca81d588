"""PocketSphinx through ctypes: what its own binding recognises, without the GIL."""

import asyncio
import ctypes
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pocketsphinx
import pytest
from livekit import rtc

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.phrase import to_grammar
from antiphon.agent_worker.providers import sphinx
from antiphon.agent_worker.providers.sphinx import Recogniser, Recognition, RecognitionFailed, load_library
from antiphon.agent_worker.providers.sphinx_stt import SphinxSTT

Hear = Callable[[str], bytes]
SENTENCES = ["yes please", "tomorrow at seven", "may i speak to the manager", "what is the weather like"]


@pytest.fixture(scope="module")
def recogniser(booking: Flow) -> Recogniser:
    recogniser = Recogniser()
    recogniser.use_grammar(to_grammar(booking))
    return recogniser


@pytest.fixture
def hear(speak: Callable[[str], Any], carry: Callable[[Any], list[rtc.AudioFrame]]) -> Hear:
    """Return a text as the recogniser receives it."""

    def hear(text: str) -> bytes:
        frame = rtc.combine_audio_frames(carry(speak(text)))
        resampler = rtc.AudioResampler(frame.sample_rate, sphinx.SAMPLE_RATE)
        return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])

    return hear


async def test_the_loop_runs_during_a_decode(recogniser: Recogniser, hear: Hear, booking: Flow) -> None:
    pcm = hear("may i speak to the manager") * 3
    decode = recogniser._library.ps_process_raw
    decodes: list[tuple[float, float]] = []

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = decode(*arguments)
        decodes.append((began, time.perf_counter()))
        return result

    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0)

    def ticked_in(began: float, ended: float) -> bool:
        third = (ended - began) / 3
        return any(began + third < tick < ended - third for tick in ticks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recogniser._library, "ps_process_raw", timed)
        ticking = asyncio.create_task(tick())
        plugin = SphinxSTT(recogniser, grammar=to_grammar(booking), is_sentence=lambda _: True)
        # with the GIL held no decode has a tick in its middle; without, one on a busy machine may have none
        for _ in range(50):
            await plugin.recognize([rtc.AudioFrame(pcm, sphinx.SAMPLE_RATE, 1, len(pcm) // 2)])
            if ticked_in(*decodes[-1]):
                break
        ticking.cancel()

    assert ticked_in(*decodes[-1])


def test_no_function_of_the_library_holds_the_gil() -> None:
    library = load_library()

    assert not isinstance(library, ctypes.PyDLL)
    for name in sphinx._FUNCTIONS:
        assert not getattr(library, name)._flags_ & ctypes._FUNCFLAG_PYTHONAPI  # type: ignore[attr-defined]


def test_the_results_are_those_of_the_binding(hear: Hear, booking: Flow) -> None:
    binding = pocketsphinx.Decoder(lm=None, cmn="batch", bestpath=False, loglevel="FATAL")
    binding.add_jsgf_string("flow", to_grammar(booking))
    binding.activate_search("flow")
    recogniser = Recogniser()
    recogniser.use_grammar(to_grammar(booking))

    for text in SENTENCES:
        pcm = sphinx._dithered(hear(text))
        binding.start_utt()
        binding.process_raw(pcm, full_utt=True)
        binding.end_utt()
        expected = binding.hyp()
        recognised, score = recogniser._decode(pcm)

        assert recognised == (expected.hypstr if expected else "")
        if expected:
            assert math.isclose(score, math.log(expected.score) / math.log(1.0001), abs_tol=0.5)


def alike(one: Recognition, other: Recognition) -> bool:
    """Whether two decodes of the same sound agree; the earlier utterance moves the score a little."""
    return one.text == other.text and abs(one.confidence - other.confidence) < 0.05


def test_decodes_of_several_threads_do_not_disturb_one_another(recogniser: Recogniser, hear: Hear) -> None:
    heard = [hear(text) for text in SENTENCES]
    alone = [recogniser.recognise(pcm) for pcm in heard]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(recogniser.recognise, heard * 3))

    assert all(map(alike, together, alone * 3))


async def test_a_cancelled_recognition_does_not_disturb_the_next(
    recogniser: Recogniser, hear: Hear, booking: Flow
) -> None:
    plugin = SphinxSTT(recogniser, grammar=to_grammar(booking), is_sentence=lambda _: True)
    pcm = hear("yes please")
    long, short = (
        rtc.AudioFrame(data, sphinx.SAMPLE_RATE, 1, len(data) // 2)
        for data in (hear("may i speak to the manager") * 4, pcm)
    )
    cancelled = asyncio.create_task(plugin.recognize([long]))
    await asyncio.sleep(0.01)
    cancelled.cancel()

    heard = (await plugin.recognize([short])).alternatives[0]

    assert alike(Recognition(heard.text, heard.confidence), recogniser.recognise(pcm))


def test_a_grammar_that_cannot_be_read_raises(recogniser: Recogniser, booking: Flow) -> None:
    with pytest.raises(ValueError, match="cannot read the grammar"):
        recogniser.use_grammar("not a grammar")
    recogniser.use_grammar(to_grammar(booking))


def test_a_failed_decode_raises_and_the_next_one_works(
    recogniser: Recogniser, hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    pcm = hear("yes please")
    with monkeypatch.context() as patch:
        patch.setattr(recogniser._library, "ps_process_raw", lambda *_: -1)
        with pytest.raises(RecognitionFailed, match=r"could not decode \d+ samples"):
            recogniser.recognise(pcm)

    assert recogniser.recognise(pcm).text == "yes please"


def test_pocketsphinx_without_its_c_functions_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sphinx._FUNCTIONS, "ps_of_another_build", (ctypes.c_int, []))
    with pytest.raises(ImportError, match=r"exports its C functions.*pip install pocketsphinx"):
        load_library()
