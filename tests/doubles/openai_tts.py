"""OpenAI's speech: `POST /v1/audio/speech`, as audio or as server-sent events.

https://platform.openai.com/docs/api-reference/audio/createSpeech. The audio is a tone, a quarter of a second
a word; PCM is 24 kHz mono.
"""

import base64
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from tests.doubles.audio import blocks, encoded, speech
from tests.doubles.faults import Pieces, nonsense, rate_of
from tests.doubles.openai_errors import EventStream, OpenAIDouble, required
from tests.doubles.server import KEY, Refused, json_body

RATE = 24_000
VOICES = frozenset(
    [
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "fable",
        "marin",
        "cedar",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    ]
)
_TYPES = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}
_LIMIT = 4096  # characters
_WITHOUT_SSE = {"tts-1", "tts-1-hd"}


class OpenAITts(OpenAIDouble):
    """The double. With `streams_events` it answers `stream_format: sse` in kind, as OpenAI does.

    Without, it ignores the field and sends the audio, as compatible servers do.
    """

    def __init__(self, *, key: str = KEY, streams_events: bool = True) -> None:
        super().__init__(key=key)
        self.streams_events = streams_events

    @property
    def spoken(self) -> list[str]:
        """The texts that were asked for and not refused, in their order."""
        return [one.body["input"] for one in self.received if one.body is not None]

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.post("/v1/audio/speech", self.handle),)

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Speak the text."""
        body = await json_body(request)
        _check(body)
        self.last.body = body
        form = body.get("response_format", "mp3")
        rate = rate_of(pieces.fault, RATE)
        audio = speech(body["input"], rate)
        if body.get("stream_format") == "sse" and self.streams_events:
            return await _send_events(request, pieces, body["input"], _parts(audio, rate, form))
        response = web.StreamResponse(
            headers={"Content-Type": _TYPES[form], "x-request-id": f"req_{len(self.received)}"}
        )
        for part in _parts(audio, rate, form):
            await pieces.before()
            if not response.prepared:
                await response.prepare(request)
            await response.write((nonsense(pieces.fault) or "").encode() or part)
        await response.write_eof()
        return response


def _check(body: dict[str, Any]) -> None:
    model = required(body, "model", str)
    text = required(body, "input", str)
    if not 0 < len(text) <= _LIMIT:
        raise Refused(400, f"'input' must have 1 to {_LIMIT} characters.", "string_above_max_length", "input")
    if required(body, "voice", str) not in VOICES:
        raise Refused(400, f"Invalid value for 'voice': '{body['voice']}'.", "invalid_value", "voice")
    if body.get("response_format", "mp3") not in _TYPES:
        raise Refused(400, "Invalid value for 'response_format'.", "invalid_value", "response_format")
    if not 0.25 <= body.get("speed", 1.0) <= 4.0:
        raise Refused(400, "'speed' must be between 0.25 and 4.0.", "invalid_value", "speed")
    if body.get("stream_format") == "sse" and model in _WITHOUT_SSE:
        raise Refused(400, f"'stream_format' sse is not supported by {model}.", param="stream_format")


def _parts(audio: bytes, rate: int, form: str) -> list[bytes]:
    data = audio if form == "pcm" else encoded(audio, rate, form)
    return list(blocks(data, rate))


async def _send_events(
    request: web.Request, pieces: Pieces, text: str, parts: list[bytes]
) -> web.StreamResponse:
    stream = EventStream(request, pieces)
    for part in parts:
        await stream.send({"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()})
    if nonsense(pieces.fault) is None:
        usage = {"input_tokens": len(text.split()), "output_tokens": 10 * len(parts)}
        usage["total_tokens"] = sum(usage.values())
        await stream.send({"type": "speech.audio.done", "usage": usage})
    return await stream.end()
