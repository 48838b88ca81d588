"""Deepgram's speech: the WebSocket `/v1/speak` for text as it is written, `POST /v1/speak` for a whole text.

https://developers.deepgram.com/reference/text-to-speech. The audio is a tone, a quarter of a second a word.
Only linear16 is served.
"""

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from tests.doubles.audio import blocks, speech
from tests.doubles.deepgram_errors import DeepgramDouble, Query
from tests.doubles.faults import Pieces, nonsense, rate_of
from tests.doubles.server import KEY, Refused, Socket, json_body

_RATES = ("8000", "16000", "24000", "32000", "48000")
_LIMIT = 2000  # characters of a request, or of one Speak


class DeepgramTts(DeepgramDouble):
    """The double; `spoken` are the texts that it spoke."""

    def __init__(self, *, key: str = KEY) -> None:
        super().__init__(key=key)
        self.spoken: list[str] = []

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.get("/v1/speak", self.handle), web.post("/v1/speak", self.handle))

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Speak a text, or a stream of it."""
        query = Query(request)
        query.model("aura-")
        query.one_of("encoding", "linear16")
        rate = int(query.one_of("sample_rate", *_RATES))
        if query.has("speed"):
            query.number("speed", 0.7, 1.5)
        if request.method == "POST":
            return await self._speak(request, pieces, query, rate)
        socket = Socket(pieces, self.last)
        response = await socket.open(request, {"dg-request-id": self.request_id})
        await socket.send({"type": "Metadata", "request_id": self.request_id, "model_name": "double"})
        text: list[str] = []
        sequence = 0
        async for message in socket.messages():
            match message:
                case {"type": "Speak", "text": str(part)} if len(part) <= _LIMIT:
                    text.append(part)
                case {"type": "Flush"}:
                    await self._flush(socket, "".join(text), rate_of(pieces.fault, rate))
                    await socket.send({"type": "Flushed", "sequence_id": sequence})
                    text, sequence = [], sequence + 1
                case {"type": "Clear"}:
                    text = []
                    await socket.send({"type": "Cleared", "sequence_id": sequence})
                case {"type": "Close"}:
                    await socket.close()
                    break
                case _:
                    await self._refuse(socket, message)
                    break
        return response

    async def _flush(self, socket: Socket, text: str, rate: int) -> None:
        if not text.strip():
            return
        self.spoken.append(text.strip())
        for block in blocks(speech(text, rate), rate):
            await socket.send(block)

    async def _refuse(self, socket: Socket, message: Any) -> None:
        self.refusals.append(f"message that is not accepted: {str(message)[:80]}")
        await socket.send({"type": "Error", "code": "DATA-0000", "description": "unparsable message"})
        await socket.close(1008, "DATA-0000")

    async def _speak(
        self, request: web.Request, pieces: Pieces, query: Query, rate: int
    ) -> web.StreamResponse:
        query.one_of("container", "none", "wav")
        body = await json_body(request)
        text = body.get("text")
        if not isinstance(text, str) or not text.strip():
            raise Refused(400, "Bad Request: 'text' must have at least one character.")
        if len(text) > _LIMIT:
            raise Refused(413, f"Input text exceeds maximum character limit of {_LIMIT}.")
        self.last.body = body
        response = web.StreamResponse(headers={"Content-Type": "audio/l16", "dg-request-id": self.request_id})
        rate = rate_of(pieces.fault, rate)
        for block in blocks(speech(text, rate), rate):
            await pieces.before()
            if not response.prepared:
                await response.prepare(request)
            await response.write((nonsense(pieces.fault) or "").encode() or block)
        self.spoken.append(text)
        await response.write_eof()
        return response
