"""PocketSphinx as a LiveKit speech-to-text plug-in: one utterance in, one sentence of the flow out."""

import asyncio
from typing import Any, Final

from livekit import rtc
from livekit.agents import LanguageCode, stt, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from antiphon.agent_worker.flow.understanding import Understanding
from antiphon.agent_worker.providers.recogniser import SAMPLE_RATE, Recogniser

UNCLEAR: Final = "(unclear)"  # a transcript, so that the turn is on record and is answered


class SphinxSTT(stt.STT[Any]):
    """Hears the sentences of one flow; everything else is "(unclear)", with its confidence."""

    def __init__(self, recogniser: Recogniser, *, grammar: str, understanding: Understanding) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._recogniser = recogniser
        self._recogniser.use_grammar(grammar)
        self._understanding = understanding
        self._one_at_a_time = asyncio.Lock()

    @property
    def model(self) -> str:
        """Return the model's name, as usage counts it."""
        return "pocketsphinx-en-us"

    @property
    def provider(self) -> str:
        """Return the provider's name, as usage counts it."""
        return "offline"

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        pcm = _at_16_khz(rtc.combine_audio_frames(buffer))
        async with self._one_at_a_time:
            heard = await asyncio.to_thread(self._recogniser.recognise, pcm)
        # a decode may stop in the middle of a sentence: then it is not one of the flow's
        is_clear = heard.is_clear and self._understanding.read(heard.text) is not None
        confidence = heard.confidence if is_clear else min(heard.confidence, 0.49)
        alternative = stt.SpeechData(
            language=LanguageCode("en"), text=heard.text if is_clear else UNCLEAR, confidence=confidence
        )
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[alternative])


def _at_16_khz(frame: rtc.AudioFrame) -> bytes:
    if frame.num_channels != 1:
        raise ValueError(f"the recogniser hears one channel, not {frame.num_channels}")
    if frame.sample_rate == SAMPLE_RATE:
        return bytes(frame.data)
    resampler = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE)
    return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])
