"""PocketSphinx as a LiveKit speech-to-text plug-in."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import LanguageCode, stt, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.providers.sphinx import SAMPLE_RATE, Recogniser, Recognition

UNCLEAR: Final = "(unclear)"  # a transcript, so that the turn is recorded and answered


class SphinxSTT(stt.STT[Any]):
    """Speech to text for the sentences of one flow; anything else is "(unclear)", with its confidence."""

    def __init__(self, recogniser: Recogniser, *, grammar: str, is_sentence: Callable[[str], bool]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._recogniser = recogniser
        self._recogniser.use_grammar(grammar)
        self._is_sentence = is_sentence

    @property
    def model(self) -> str:
        """Return the model's name in usage metrics."""
        return "pocketsphinx-en-us"

    @property
    def provider(self) -> str:
        """Return the provider's name in usage metrics."""
        return "offline"

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        recognised = await asyncio.to_thread(self._recognise, rtc.combine_audio_frames(buffer))
        # a decode can stop in the middle of a sentence; the fragment is not a sentence of the flow
        is_clear = recognised.is_clear and self._is_sentence(recognised.text)
        alternative = stt.SpeechData(
            language=LanguageCode("en"),
            text=recognised.text if is_clear else UNCLEAR,
            confidence=recognised.confidence if is_clear else min(recognised.confidence, 0.49),
        )
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[alternative])

    def _recognise(self, frame: rtc.AudioFrame) -> Recognition:
        return self._recogniser.recognise(_at_16_khz(frame))


def _at_16_khz(frame: rtc.AudioFrame) -> bytes:
    if frame.num_channels != 1:
        raise ValueError(f"the recogniser takes mono audio, not {frame.num_channels} channels")
    if frame.sample_rate == SAMPLE_RATE:
        return bytes(frame.data)
    resampler = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE)
    return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])
