"""Deepgram's Flux, which detects ends of turns: the WebSocket `/v2/listen`.

https://developers.deepgram.com/docs/flux/state. What it hears is the script. When it sends what follows the
audio's own time: an EagerEndOfTurn after 160 ms of silence if `eager_eot_threshold` is set, then either a
TurnResumed or, after 400 ms, the EndOfTurn.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from tests.doubles.audio import SECONDS_A_WORD, Sound, SoundDetector
from tests.doubles.deepgram_errors import DeepgramDouble, Query
from tests.doubles.faults import Pieces
from tests.doubles.server import KEY, Refused, Socket

CONFIDENCE = 0.96
_EAGER_SECONDS = 0.16
_END_SECONDS = 0.4
_THRESHOLDS = {
    "eager_eot_threshold": (0.3, 0.9),
    "eot_threshold": (0.5, 0.9),
    "eot_timeout_ms": (500, 10_000),
}


class DeepgramFlux(DeepgramDouble):
    """The double; `utterances` is its script, then `otherwise`."""

    def __init__(self, *utterances: str, key: str = KEY) -> None:
        super().__init__(key=key)
        self.utterances = deque(utterances)
        self.otherwise = ""

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.get("/v2/listen", self.handle),)

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Transcribe a stream."""
        query = Query(request)
        _check(query)
        socket = Socket(pieces, self.last)
        response = await socket.open(request, {"dg-request-id": self.request_id})
        stream = _Stream(self, socket, int(query.number("sample_rate", 8_000, 48_000)))
        stream.is_eager = query.has("eager_eot_threshold")
        await stream.send("Connected")
        async for message in socket.messages():
            if not await stream.take(message):
                break
        return response

    def next_utterance(self) -> str:
        """Return what is heard next."""
        return self.utterances.popleft() if self.utterances else self.otherwise


class _Stream:
    """One stream: turns sound into events of turns."""

    def __init__(self, double: DeepgramFlux, socket: Socket, rate: int) -> None:
        self.is_eager = False
        self._double = double
        self._socket = socket
        self._detector = SoundDetector(rate)
        self._sequence = 0
        self._turn = 0
        self._words: list[str] = []
        self._heard = 0
        self._eager = False  # sent, and neither resumed nor confirmed
        self._started_at = 0.0

    async def take(self, message: dict[str, Any] | bytes) -> bool:
        """Handle one message; return False when the stream is closed."""
        if isinstance(message, bytes):
            for sound in self._detector.push(message):
                await self._hear(sound)
            return True
        match message.get("type"):
            case "Configure":
                await self._configure(message)
            case "CloseStream":
                await self._socket.close()
                return False
            case kind:
                self._double.refusals.append(f"unknown message: {kind}")
                description = f"Could not deserialize message of type {kind}"
                await self.send("Error", code="UNPARSABLE_CLIENT_MESSAGE", description=description)
                await self._socket.close(1008, "UNPARSABLE_CLIENT_MESSAGE")
                return False
        return True

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one message with its number."""
        head = {"type": kind, "request_id": self._double.request_id, "sequence_id": self._sequence}
        self._sequence += 1
        await self._socket.send(head | fields)

    async def _configure(self, message: dict[str, Any]) -> None:
        thresholds = message.get("thresholds", {})
        for name, value in thresholds.items():
            low, high = _THRESHOLDS[name]
            if not low <= value <= high:
                await self.send("ConfigureFailure", error=f"{name} must be from {low} to {high}")
                return
        self.is_eager = self.is_eager or "eager_eot_threshold" in thresholds
        await self.send("ConfigureSuccess", thresholds=thresholds, keyterms=message.get("keyterms", []))

    async def _hear(self, sound: Sound) -> None:
        if sound.kind == "started":
            self._words = self._double.next_utterance().split()
            self._heard, self._eager, self._started_at = min(1, len(self._words)), False, sound.started_at
            await self._turn_info("StartOfTurn", 0.05)
        elif sound.kind == "continued":
            heard = min(len(self._words), 1 + int((sound.at - sound.started_at) / SECONDS_A_WORD))
            grown, self._heard = heard > self._heard, max(heard, self._heard)
            if self._eager:
                self._eager = False
                await self._turn_info("TurnResumed", 0.1)
            elif grown:
                await self._turn_info("Update", 0.1)
        elif sound.silent_seconds >= _END_SECONDS:
            self._heard = len(self._words)
            await self._turn_info("EndOfTurn", 0.9)
            self._turn += 1
            self._detector.stop()
        elif self.is_eager and not self._eager and sound.silent_seconds >= _EAGER_SECONDS:
            self._eager = True
            await self._turn_info("EagerEndOfTurn", 0.5)

    async def _turn_info(self, event: str, confidence: float) -> None:
        words = [
            {
                "word": word,
                "confidence": CONFIDENCE,
                "start": round(self._started_at + n * SECONDS_A_WORD, 3),
                "end": round(self._started_at + (n + 1) * SECONDS_A_WORD, 3),
            }
            for n, word in enumerate(self._words[: self._heard])
        ]
        await self.send(
            "TurnInfo",
            event=event,
            turn_index=self._turn,
            audio_window_start=round(self._started_at, 3),
            audio_window_end=round(self._detector.position, 3),
            transcript=" ".join(self._words[: self._heard]),
            words=words,
            end_of_turn_confidence=confidence,
        )


def _check(query: Query) -> None:
    model = query.model("flux-general-en", "flux-general-multi")
    query.one_of("encoding", "linear16", "linear32", "mulaw", "alaw", "opus", "ogg-opus")
    for name, (low, high) in _THRESHOLDS.items():
        if query.has(name):
            query.number(name, low, high)
    if query.has("language_hint") and model != "flux-general-multi":
        raise Refused(400, "Bad Request: language_hint is only supported by flux-general-multi.")
