"""Speech synthesis with eSpeak NG."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import espeakng_loader
import numpy as np
import pytest
from livekit.agents import tts

from antiphon.agent_worker.providers import espeak
from antiphon.agent_worker.providers.espeak import SpeechSynthesisFailed, synthesize
from antiphon.agent_worker.providers.espeak_tts import SAMPLE_RATE, EspeakTTS


def test_text_becomes_audible_pcm() -> None:
    rate, pcm = synthesize("i would like to book a table for two")
    samples = np.frombuffer(pcm, dtype=np.int16)
    assert rate == SAMPLE_RATE
    assert 1 < len(samples) / rate < 4
    assert np.abs(samples).max() > 3_000


def test_synthesize_is_thread_safe() -> None:
    alone = len(synthesize("thank you good bye")[1])
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: len(synthesize("thank you good bye")[1]), range(16)))
    assert all(abs(length - alone) < 0.02 * alone for length in together)


def test_unknown_voice_raises() -> None:
    with pytest.raises(SpeechSynthesisFailed, match="could not choose the voice 'nobody'"):
        synthesize("hello", voice="nobody")


def test_library_that_does_not_load_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_engine", None)
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "libnowhere.so")
    with pytest.raises(SpeechSynthesisFailed, match="does not load"):
        synthesize("hello")


def test_missing_library_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_engine", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SpeechSynthesisFailed, match="pip install espeakng-loader"):
        synthesize("hello")


@pytest.mark.parametrize("module", ["livekit.agents", "pocketsphinx"])
def test_importing_espeak_is_light(module: str) -> None:
    program = f"import sys, antiphon.agent_worker.providers.espeak; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_plugin_yields_the_same_audio_as_the_library() -> None:
    async with asyncio.timeout(60):
        frame = await EspeakTTS().synthesize("good evening").collect()
    assert frame.sample_rate == SAMPLE_RATE
    assert abs(frame.duration - len(synthesize("good evening")[1]) / 2 / SAMPLE_RATE) < 0.1


async def test_plugin_names_its_provider_and_model() -> None:
    plugin: tts.TTS[str] = EspeakTTS()
    assert (plugin.provider, plugin.model, plugin.capabilities.streaming) == (
        "offline",
        "espeak-ng",
        False,
    )
