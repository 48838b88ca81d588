"""The plugins of a journey: against doubles, or with `ANTIPHON_LIVE` against the real services.

`ANTIPHON_LIVE=openai,deepgram` names the services whose keys are set; `make journeys-live` sets it.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from livekit.agents import llm, stt, tts, utils
from livekit.plugins import deepgram, openai
from tests.doubles.audio import silence, tone
from tests.doubles.deepgram_flux import DeepgramFlux
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.deepgram_tts import DeepgramTts
from tests.doubles.openai_answers import call, say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.openai_realtime import OpenAIRealtime
from tests.doubles.openai_responses import OpenAIResponses
from tests.doubles.openai_stt import OpenAIStt
from tests.doubles.openai_tts import OpenAITts
from tests.doubles.server import KEY, serve

from antiphon.agent_worker.providers.espeak import synthesize

SENTENCE = "Good morning, I would like a table for two people."
RATE = 16_000
LIVE = frozenset(os.environ.get("ANTIPHON_LIVE", "").split(",")) - {""}


class Services:
    """Makes the plugins; `wrong_key` makes the service refuse them."""

    def __init__(self, url: str | None, http: aiohttp.ClientSession) -> None:
        self._url = url  # of the doubles
        self._http = http

    def llm(self, name: str, **options: Any) -> llm.LLM[Any]:
        """Return OpenAI's chat or responses."""
        if name == "openai-responses":
            place = self._place("/v1", **options)
            return openai.responses.LLM(model="gpt-4.1-mini", use_websocket=False, **place)
        return openai.LLM(model="gpt-4.1-mini", **self._place("/v1", **options))

    def stt(self, name: str, **options: Any) -> stt.STT[Any]:
        """Return a recogniser that streams."""
        if name == "deepgram":
            return deepgram.STT(http_session=self._http, **self._place("/v1/listen", **options))
        if name == "deepgram-flux":
            return deepgram.STTv2(http_session=self._http, **self._place("/v2/listen", **options))
        return openai.STT(model="gpt-4o-mini-transcribe", use_realtime=True, **self._place("/v1", **options))

    def tts(self, name: str, **options: Any) -> tts.TTS[Any]:
        """Return a voice."""
        if name == "deepgram":
            return deepgram.TTS(http_session=self._http, **self._place("/v1/speak", **options))
        return openai.TTS(model="gpt-4o-mini-tts", voice="ash", **self._place("/v1", **options))

    def realtime(self, **options: Any) -> openai.realtime.RealtimeModel:
        """Return OpenAI's realtime model; its doubles have a port of their own."""
        place = self._place("/v1", **options)
        return openai.realtime.RealtimeModel(model="gpt-realtime", http_session=self._http, **place)

    def _place(self, path: str, wrong_key: bool = False) -> dict[str, Any]:
        place: dict[str, Any] = (
            {} if self._url is None else {"base_url": f"{self._url}{path}", "api_key": KEY}
        )
        return place | ({"api_key": "a-wrong-key"} if wrong_key else {})


def spoken_sentence() -> bytes:
    """Return SENTENCE as audio at 16 kHz: eSpeak's voice for a real service, a tone for a double."""
    if not LIVE:
        return silence(0.2, RATE) + tone(2.4, RATE) + silence(1.0, RATE)
    rate, pcm = synthesize(SENTENCE)
    return silence(0.5, RATE) + _resampled(pcm, rate) + silence(2.0, RATE)


def _resampled(pcm: bytes, rate: int) -> bytes:
    from livekit import rtc

    resampler = rtc.AudioResampler(input_rate=rate, output_rate=RATE)
    frame = rtc.AudioFrame(pcm, rate, 1, len(pcm) // 2)
    return b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])


@asynccontextmanager
async def services(*, realtime: bool = False) -> AsyncIterator[Services]:
    """Serve the doubles with the answers of the journeys, or reach the real services."""
    async with utils.http_context.open(), aiohttp.ClientSession() as http:
        if LIVE:
            yield Services(None, http)
            return
        recognisers = (DeepgramNova(SENTENCE), DeepgramFlux(SENTENCE))
        chat, responses, model = OpenAIChat(), OpenAIResponses(), OpenAIRealtime()
        for one in (chat, responses, model):
            one.answers.add(say("The answer is blue, of course."), call("weather", city="Paris"))
        sockets = model if realtime else OpenAIStt(SENTENCE)  # both are at /v1/realtime
        voices = (OpenAITts(), DeepgramTts())
        async with serve(*recognisers, chat, responses, sockets, *voices) as url:
            yield Services(url, http)
