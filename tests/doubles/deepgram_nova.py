"""Deepgram's live transcription: the WebSocket `/v1/listen`, and `POST /v1/listen` for a recording.

https://developers.deepgram.com/reference/speech-to-text/listen-streaming. What it hears is the script: each
stretch of sound that is followed by silence is one utterance. When it sends what follows the audio's own
time, not the clock.
"""

import asyncio
import io
import wave
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from tests.doubles.audio import SECONDS_A_WORD, Sound, SoundDetector
from tests.doubles.deepgram_errors import DeepgramDouble, Query
from tests.doubles.faults import Pieces, nonsense
from tests.doubles.server import KEY, Refused, Socket

CONFIDENCE = 0.97
_MODELS = ("nova-3", "nova-2", "nova-general", "nova-phonecall", "enhanced", "base")


@dataclass(frozen=True, slots=True)
class Options:
    """The query of a stream."""

    rate: int
    interim: bool
    vad_events: bool
    punctuated: bool
    endpointing: float | None  # seconds; None: off
    utterance_end: float | None  # seconds


class DeepgramNova(DeepgramDouble):
    """The double; `utterances` is its script, then `otherwise`."""

    def __init__(self, *utterances: str, key: str = KEY, idle_seconds: float = 10.0) -> None:
        super().__init__(key=key)
        self.utterances = deque(utterances)
        self.otherwise = ""
        self.idle_seconds = idle_seconds  # without audio or KeepAlive, then it closes the stream

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.get("/v1/listen", self.handle), web.post("/v1/listen", self.handle))

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Transcribe a stream or a recording."""
        query = Query(request)
        _check_model(query)
        if request.method == "POST":
            return await self._transcribe(request, pieces, query)
        options = _options(query)
        socket = Socket(pieces, self.last)
        response = await socket.open(request, {"dg-request-id": self.request_id})
        stream = _Stream(self, socket, options)
        try:
            async with asyncio.timeout(self.idle_seconds) as deadline:
                async for message in socket.messages():
                    deadline.reschedule(asyncio.get_running_loop().time() + self.idle_seconds)
                    if not await stream.take(message):
                        break
        except TimeoutError:
            await socket.close(1011, "NET-0001 Deepgram did not receive audio data or a text message")
        return response

    def next_utterance(self) -> str:
        """Return what is heard next."""
        return self.utterances.popleft() if self.utterances else self.otherwise

    async def _transcribe(self, request: web.Request, pieces: Pieces, query: Query) -> web.Response:
        data = await request.read()
        try:
            with wave.open(io.BytesIO(data)) as file:
                seconds = file.getnframes() / file.getframerate()
        except (wave.Error, EOFError):
            raise Refused(400, "Bad Request: failed to process audio: corrupt or unsupported data") from None
        await pieces.before()
        if (text := nonsense(pieces.fault)) is not None:
            return web.Response(text=text, content_type="application/json")
        heard = alternative(self.next_utterance(), 0.0, query.flag("punctuate"))
        return web.json_response(
            {
                "metadata": {"request_id": self.request_id, "duration": seconds, "channels": 1},
                "results": {"channels": [{"alternatives": [heard]}]},
            }
        )


class _Stream:
    """One stream: turns sound into results."""

    def __init__(self, double: DeepgramNova, socket: Socket, options: Options) -> None:
        self._double = double
        self._socket = socket
        self._options = options
        self._detector = SoundDetector(options.rate)
        self._words: list[str] = []  # of the utterance that is being spoken
        self._interims = 0
        self._final_sent = False

    async def take(self, message: dict[str, Any] | bytes) -> bool:
        """Handle one message; return False when the stream is closed."""
        if isinstance(message, bytes):
            for sound in self._detector.push(message):
                await self._hear(sound)
            return True
        match message.get("type"):
            case "KeepAlive":
                pass
            case "Finalize":
                await self._finish(from_finalize=True)
            case "CloseStream":
                await self._finish()
                await self._socket.send(self._metadata())
                await self._socket.close()
                return False
            case kind:
                self._double.refusals.append(f"unknown message: {kind}")
                await self._socket.close(1008, "DATA-0000 unparsable message")
                return False
        return True

    async def _hear(self, sound: Sound) -> None:
        options = self._options
        if sound.kind == "started":
            self._words = self._double.next_utterance().split()
            self._start, self._interims, self._final_sent = sound.started_at, 0, False
            if options.vad_events:
                await self._send({"type": "SpeechStarted", "channel": [0, 1], "timestamp": self._start})
        elif sound.kind == "continued":
            heard = min(len(self._words), int((sound.at - sound.started_at) / SECONDS_A_WORD))
            if options.interim and heard > self._interims:
                self._interims = heard
                await self._send_result(self._words[:heard], is_final=False)
        elif options.endpointing is not None and sound.silent_seconds >= options.endpointing:
            await self._finish(keep_open=options.utterance_end is not None)
        if options.utterance_end is not None and sound.silent_seconds >= options.utterance_end:
            await self._send({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": self._end()})
            self._detector.stop()

    async def _finish(self, *, keep_open: bool = False, from_finalize: bool = False) -> None:
        if self._words and not self._final_sent:
            self._final_sent = True
            await self._send_result(
                self._words, is_final=True, speech_final=not from_finalize, from_finalize=from_finalize
            )
        if not keep_open:
            self._detector.stop()

    def _end(self) -> float:
        return self._start + SECONDS_A_WORD * len(self._words)

    async def _send_result(self, words: list[str], **flags: bool) -> None:
        flags = {"speech_final": False, "from_finalize": False} | flags
        heard = alternative(" ".join(words), self._start, self._options.punctuated)
        await self._send(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "duration": SECONDS_A_WORD * len(words),
                "start": self._start,
                **flags,
                "channel": {"alternatives": [heard]},
                "metadata": {"request_id": self._double.request_id, "model_info": {"name": "double"}},
            }
        )

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send(message)

    def _metadata(self) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "request_id": self._double.request_id,
            "duration": self._detector.position,
            "channels": 1,
        }


def alternative(text: str, start: float, punctuated: bool) -> dict[str, Any]:
    """Return a transcript with the time of each word, in seconds from the start of the stream."""
    words: list[dict[str, Any]] = [
        {
            "word": word.strip(".,?!").lower(),
            "start": round(start + n * SECONDS_A_WORD, 3),
            "end": round(start + (n + 1) * SECONDS_A_WORD, 3),
            "confidence": CONFIDENCE,
        }
        | ({"punctuated_word": word} if punctuated else {})
        for n, word in enumerate(text.split())
    ]
    shown = text if punctuated else " ".join(word["word"] for word in words)
    return {"transcript": shown, "confidence": CONFIDENCE if words else 0.0, "words": words}


def _check_model(query: Query) -> None:
    model = query.model(*_MODELS)
    if query.has("keywords") and model.startswith("nova-3"):
        raise Refused(400, "Bad Request: Keywords are not supported for Nova-3. Use keyterm.")
    if query.has("keyterm") and not model.startswith("nova-3"):
        raise Refused(400, "Bad Request: Keyterm is only supported for Nova-3.")


def _options(query: Query) -> Options:
    query.one_of("encoding", "linear16")
    interim = query.flag("interim_results")
    utterance_end = None
    if query.has("utterance_end_ms"):
        if not interim:
            raise Refused(400, "Bad Request: utterance_end_ms needs interim_results=true.")
        utterance_end = query.number("utterance_end_ms", 1_000, 5_000) / 1_000
    return Options(
        rate=int(query.number("sample_rate", 8_000, 48_000)),
        interim=interim,
        vad_events=query.flag("vad_events"),
        punctuated=query.flag("punctuate") or query.flag("smart_format"),
        endpointing=None
        if query.is_off("endpointing")
        else query.number("endpointing", 10, 5_000, 10) / 1_000,
        utterance_end=utterance_end,
    )
