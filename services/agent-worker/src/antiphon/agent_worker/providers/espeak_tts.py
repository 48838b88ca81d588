"""eSpeak NG as a LiveKit text-to-speech plug-in."""

import asyncio
from typing import Any

from livekit.agents import tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions

from antiphon.agent_worker.providers.espeak import synthesize

SAMPLE_RATE = 22_050  # Hz, eSpeak NG's own


class EspeakTTS(tts.TTS[Any]):
    """Text to speech, one sentence at a time; LiveKit splits the answers into sentences."""

    def __init__(self) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SAMPLE_RATE, num_channels=1
        )

    @property
    def model(self) -> str:
        """Return the model's name in usage metrics."""
        return "espeak-ng"

    @property
    def provider(self) -> str:
        """Return the provider's name in usage metrics."""
        return "offline"

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Return the stream of one text."""
        return _Speech(tts=self, input_text=text, conn_options=conn_options)


class _Speech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        rate, pcm = await asyncio.to_thread(synthesize, self.input_text)
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=rate, num_channels=1, mime_type="audio/pcm"
        )
        output_emitter.push(pcm)
        output_emitter.flush()
