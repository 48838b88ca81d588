"""OpenAI's speech-to-speech sessions: the WebSocket `/v1/realtime`.

https://platform.openai.com/docs/api-reference/realtime. `answers` is what the model says and calls,
`utterances` is what it hears the caller say. Its audio is a tone at 24 kHz, a quarter of a second a word.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from tests.doubles.faults import Pieces
from tests.doubles.openai_answers import Answers
from tests.doubles.openai_audio_input import AudioInput, check_format, silence_of
from tests.doubles.openai_chat import check_tool
from tests.doubles.openai_errors import OpenAIDouble, error_object, required
from tests.doubles.openai_realtime_response import Conversation, stream_response
from tests.doubles.server import KEY, Refused, Socket


class OpenAIRealtime(OpenAIDouble):
    """The double. Every connection is a session of its own, with one script for all."""

    def __init__(self, *, key: str = KEY) -> None:
        super().__init__(key=key)
        self.answers = Answers()
        self.utterances: deque[str] = deque()
        self.sessions: list[RealtimeSession] = []
        self.pace_seconds = 0.0  # between the words of an answer

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.get("/v1/realtime", self.handle),)

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Hold a session."""
        if not request.query.get("model"):
            raise Refused(400, "you must provide a model parameter", param="model")
        socket = Socket(pieces, self.last)
        response = await socket.open(request)
        session = RealtimeSession(self, socket, pieces)
        self.sessions.append(session)
        try:
            created = {
                "type": "realtime",
                "model": request.query["model"],
                "id": f"sess_{len(self.sessions)}",
            }
            await session.send({"type": "session.created", "session": created})
            async for message in socket.messages():
                await session.take(message)
        finally:
            await session.stop()
        return response


class RealtimeSession:
    """One session: its options, its conversation, and the response that is being made."""

    def __init__(self, double: OpenAIRealtime, socket: Socket, pieces: Pieces) -> None:
        self.options: dict[str, Any] = {}
        self.conversation = Conversation()
        self._double = double
        self._socket = socket
        self._pieces = pieces
        self._events = itertools.count(1)
        self._responses = itertools.count(1)
        self._response: asyncio.Task[None] | None = None
        self._input = AudioInput(self.send, lambda: double.utterances.popleft() if double.utterances else "")
        self._input.transcribes = False
        self._answers_turns = True
        self._interrupts = True

    async def send(self, event: dict[str, Any]) -> None:
        """Send one event with its id, and note the items that it adds."""
        if event["type"] == "conversation.item.added":
            self.conversation.add(event["item"], event.get("previous_item_id"))
        await self._socket.send({"event_id": f"event_{next(self._events)}"} | event)

    async def take(self, message: dict[str, Any] | bytes) -> None:
        """Handle one event of the client; an error answers what the service does not accept."""
        try:
            await self._handle(message if isinstance(message, dict) else {})
        except Refused as refused:
            self._double.refusals.append(refused.message)
            error = error_object(refused)
            if isinstance(message, dict):
                error["event_id"] = message.get("event_id")
            await self.send({"type": "error", "error": error})

    async def stop(self) -> None:
        """End the response that is being made."""
        if self._response is not None:
            self._response.cancel()
            await asyncio.gather(self._response, return_exceptions=True)

    async def _handle(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "session.update":
                self._update(required(message, "session", dict))
                await self.send({"type": "session.updated", "session": self.options})
            case "response.create":
                await self._respond(message.get("response") or {})
            case "response.cancel":
                await self._cancel("client_cancelled")
            case kind if str(kind).startswith("input_audio_buffer."):
                await self._change_buffer(str(kind).rpartition(".")[2], message)
            case kind if str(kind).startswith("conversation.item."):
                await self._change_item(str(kind).rpartition(".")[2], message)
            case kind:
                raise Refused(400, f"Invalid value: '{kind}'.", "invalid_value", "type")

    def _update(self, session: dict[str, Any]) -> None:
        if session.get("type") != "realtime":
            raise Refused(400, "Missing required parameter: 'session.type'.", param="session.type")
        audio = session.get("audio") or {}
        for side in ("input", "output"):
            check_format((audio.get(side) or {}).get("format"), f"session.audio.{side}.format")
        if session.get("output_modalities", ["audio"]) not in (["audio"], ["text"]):
            raise Refused(400, "Invalid modalities: use ['audio'] or ['text'].", "invalid_value")
        for number, tool in enumerate(session.get("tools") or ()):
            check_tool(tool, f"session.tools[{number}]")
        given = audio.get("input") or {}
        if "turn_detection" in given:
            detection = given["turn_detection"]
            self._input.silence_seconds = silence_of(detection)
            self._answers_turns = bool((detection or {}).get("create_response", True))
            self._interrupts = bool((detection or {}).get("interrupt_response", True))
        if "transcription" in given:
            self._input.transcribes = given["transcription"] is not None
        self.options |= session

    async def _change_buffer(self, change: str, message: dict[str, Any]) -> None:
        if change == "append":
            if await self._input.append(message, self._speech_started) and self._answers_turns:
                await self._respond({})
        elif change == "commit":
            await self._input.commit()
        else:
            await self._input.clear()

    async def _change_item(self, change: str, message: dict[str, Any]) -> None:
        if change == "create":
            item = required(message, "item", dict)
            previous = self.conversation.check_new(item, message.get("previous_item_id"))
            for kind in ("added", "done"):
                await self.send(
                    {"type": f"conversation.item.{kind}", "previous_item_id": previous, "item": item}
                )
            return
        item_id = required(message, "item_id", str)
        self.conversation.check_known(item_id, change)
        if change == "delete":
            self.conversation.remove(item_id)
            await self.send({"type": "conversation.item.deleted", "item_id": item_id})
        elif change == "truncate":
            fields = {"content_index": 0, "audio_end_ms": required(message, "audio_end_ms", int)}
            await self.send({"type": "conversation.item.truncated", "item_id": item_id} | fields)
        else:
            raise Refused(400, f"Invalid value: 'conversation.item.{change}'.", "invalid_value", "type")

    async def _respond(self, options: dict[str, Any]) -> None:
        if self._response is not None and not self._response.done():
            raise Refused(
                400,
                "Conversation already has an active response in progress.",
                "conversation_already_has_active_response",
            )
        number = next(self._responses)
        answer = self._double.answers.take()
        modality = (options.get("output_modalities") or self.options.get("output_modalities") or ["audio"])[0]
        self._response = asyncio.create_task(
            stream_response(
                self.send,
                answer,
                response_id=f"resp_{id(self):x}_{number}",
                with_audio=modality == "audio",
                metadata=options.get("metadata"),
                last_item=lambda: self.conversation.last,
                pace_seconds=self._double.pace_seconds,
                fault=self._pieces.fault,
            )
        )

    async def _speech_started(self) -> None:
        if self._interrupts and self._response is not None and not self._response.done():
            await self._cancel("turn_detected")

    async def _cancel(self, reason: str) -> None:
        if self._response is None or self._response.done():
            raise Refused(400, "Cancellation failed: no active response found", "response_cancel_not_active")
        self._response.cancel(reason)
        await asyncio.gather(self._response, return_exceptions=True)
