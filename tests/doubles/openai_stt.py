"""OpenAI's transcription: `POST /v1/audio/transcriptions` of a file, and the WebSocket `/v1/realtime`.

https://platform.openai.com/docs/guides/realtime-transcription. What is heard is the script.
"""

import io
import re
import wave
from collections import deque
from collections.abc import Iterable
from typing import Any

from aiohttp import BodyPartReader, web
from tests.doubles.faults import Pieces, nonsense
from tests.doubles.openai_audio_input import AudioInput, check_format, silence_of
from tests.doubles.openai_errors import OpenAIDouble, error_object, required
from tests.doubles.server import KEY, Refused, Socket

_FORMATS = {"json", "text", "srt", "verbose_json", "vtt", "diarized_json"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")


class OpenAIStt(OpenAIDouble):
    """The double; `utterances` is its script, then `otherwise`."""

    def __init__(self, *utterances: str, key: str = KEY) -> None:
        super().__init__(key=key)
        self.utterances = deque(utterances)
        self.otherwise = ""

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.post("/v1/audio/transcriptions", self.handle), web.get("/v1/realtime", self.handle))

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Transcribe a file or a stream."""
        if request.method == "POST":
            return await self._transcribe(request, pieces)
        if request.query.get("intent") != "transcription":
            raise Refused(400, "the double serves only intent=transcription", param="intent")
        socket = Socket(pieces, self.last)
        response = await socket.open(request)
        session = _Session(self, socket)
        await session.send({"type": "session.created", "session": {"type": "transcription"}})
        async for message in socket.messages():
            try:
                await session.take(message)
            except Refused as refused:
                self.refusals.append(refused.message)
                await session.send({"type": "error", "error": error_object(refused)})
        return response

    def next_utterance(self) -> str:
        """Return what is heard next."""
        return self.utterances.popleft() if self.utterances else self.otherwise

    async def _transcribe(self, request: web.Request, pieces: Pieces) -> web.Response:
        form = await _form(request)
        required(form, "model", str)
        seconds = _seconds(form.get("file"))
        kind = form.get("response_format", "json")
        if kind not in _FORMATS or (kind != "json" and form["model"].startswith("gpt-4o")):
            raise Refused(400, f"response_format '{kind}' is not compatible with model.", "unsupported_value")
        language = form.get("language", "en")
        if not _LANGUAGE.fullmatch(language):
            raise Refused(400, f"Invalid language '{language}'.", "invalid_language_format", "language")
        self.last.body = form | {"file": f"{seconds:.2f} s"}
        await pieces.before()
        if (spoiled := nonsense(pieces.fault)) is not None:
            return web.Response(text=spoiled, content_type="application/json")
        text = self.next_utterance()
        if kind == "verbose_json":
            return web.json_response(
                {"text": text, "language": "english", "duration": seconds, "segments": []}
            )
        tokens = {"input_tokens": round(10 * seconds), "output_tokens": len(text.split())}
        usage = {"type": "tokens", "total_tokens": sum(tokens.values())} | tokens
        return web.json_response({"text": text, "usage": usage})


class _Session:
    """One realtime session of type transcription."""

    def __init__(self, double: OpenAIStt, socket: Socket) -> None:
        self._socket = socket
        self._events = 0
        self._input = AudioInput(self.send, double.next_utterance)
        self._configured = False

    async def send(self, event: dict[str, Any]) -> None:
        """Send one event with its id."""
        self._events += 1
        await self._socket.send({"event_id": f"event_{self._events}"} | event)

    async def take(self, message: dict[str, Any] | bytes) -> None:
        """Handle one event of the client; raise Refused for what the service does not accept."""
        if not isinstance(message, dict):
            raise Refused(400, "Invalid event: not JSON", "invalid_event")
        match message:
            case {"type": "session.update", "session": {"type": "transcription", "audio": {"input": given}}}:
                self._update(given)
                await self.send({"type": "session.updated", "session": message["session"]})
            case {"type": "session.update"}:
                raise Refused(400, "Invalid session for a transcription: 'session.type'.", "invalid_value")
            case {"type": "input_audio_buffer.append"} if self._configured:
                await self._input.append(message, _nothing)
            case {"type": "input_audio_buffer.commit"}:
                await self._input.commit()
            case {"type": "input_audio_buffer.clear"}:
                await self._input.clear()
            case _:
                raise Refused(400, f"Invalid event: {str(message)[:60]}", "invalid_event")

    def _update(self, given: dict[str, Any]) -> None:
        check_format(given.get("format"), "session.audio.input.format")
        transcription = given.get("transcription") or {}
        if not transcription.get("model"):
            raise Refused(400, "Missing required parameter: 'session.audio.input.transcription.model'.")
        self._input.silence_seconds = silence_of(given.get("turn_detection"))
        self._configured = True


async def _nothing() -> None:
    pass


async def _form(request: web.Request) -> dict[str, Any]:
    if request.content_type != "multipart/form-data":
        raise Refused(400, "the body must be multipart/form-data")
    form: dict[str, Any] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        data = await part.read(decode=True)
        form[part.name or ""] = bytes(data) if part.name == "file" else data.decode()
    return form


def _seconds(file: bytes | None) -> float:
    if not file:
        raise Refused(400, "Missing required parameter: 'file'.", "missing_required_parameter", "file")
    try:
        with wave.open(io.BytesIO(file)) as audio:
            return float(audio.getnframes() / audio.getframerate())
    except (wave.Error, EOFError) as error:
        raise Refused(400, "Audio file might be corrupted or unsupported", "invalid_value", "file") from error
