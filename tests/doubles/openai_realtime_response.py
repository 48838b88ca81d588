"""One response of a realtime session as its events, and the conversation that it adds to."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from tests.doubles.audio import blocks, speech
from tests.doubles.faults import Fault, rate_of
from tests.doubles.openai_answers import Answer, Call, pieces_of
from tests.doubles.openai_audio_input import RATE, Send
from tests.doubles.server import Refused


class Conversation:
    """The items of a session, in their order."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    @property
    def last(self) -> str | None:
        """The id of the last item."""
        return self.items[-1]["id"] if self.items else None

    def add(self, item: dict[str, Any], previous: str | None) -> None:
        """Insert an item after another one; first without one."""
        self.items.insert(0 if previous is None else self._index(previous) + 1, item)

    def remove(self, item_id: str) -> None:
        """Remove an item."""
        del self.items[self._index(item_id)]

    def check_new(self, item: dict[str, Any], previous: str | None) -> str | None:
        """Raise Refused for an item that cannot be created; return the one that it follows."""
        item.setdefault("id", f"item_{len(self.items) + 1}")
        if self._index(item["id"]) >= 0:
            raise Refused(
                400,
                f"Error adding item: an item with id '{item['id']}' already exists.",
                "item_create_duplicate_item_id",
            )
        if item.get("type") == "function_call_output":
            calls = {one.get("call_id") for one in self.items if one.get("type") == "function_call"}
            if item.get("call_id") not in calls:
                raise Refused(400, "Error: tool call_id not found in conversation.", "invalid_tool_call_id")
        if previous == "root":
            return None
        if previous is not None:
            self.check_known(previous, "create")
        return previous or self.last

    def check_known(self, item_id: str, change: str) -> None:
        """Raise Refused for an item that the conversation does not have."""
        if self._index(item_id) < 0:
            raise Refused(
                400,
                f"Error: the item with id '{item_id}' does not exist.",
                f"item_{change}_invalid_item_id",
            )

    def _index(self, item_id: str) -> int:
        return next((n for n, item in enumerate(self.items) if item["id"] == item_id), -1)


async def stream_response(
    send: Send,
    answer: Answer,
    *,
    response_id: str,
    with_audio: bool,
    metadata: dict[str, Any] | None,
    last_item: Callable[[], str | None],
    pace_seconds: float,
    fault: Fault | None,
) -> None:
    """Send the events of a response. When it is cancelled, it ends with the reason as the service's does."""
    response: dict[str, Any] = {
        "object": "realtime.response",
        "id": response_id,
        "metadata": metadata,
        "output": [],
    }

    async def done(status: str, **fields: Any) -> None:
        ended = response | {"status": status, "usage": _usage(answer)} | fields
        await send({"type": "response.done", "response": ended})

    try:
        await send({"type": "response.created", "response": response | {"status": "in_progress"}})
        output = _Output(send, response_id, last_item, pace_seconds)
        if answer.text:
            await output.message(answer.text, with_audio, rate_of(fault, RATE))
        for call in answer.calls:
            await output.call(call)
    except asyncio.CancelledError as cancelled:
        reason = cancelled.args[0] if cancelled.args else None
        if reason is None:
            raise  # the session is over
        await done("cancelled", status_details={"type": "cancelled", "reason": reason})
        return
    if answer.failed:
        error = {"type": answer.failed, "code": answer.failed}
        await done("failed", status_details={"type": "failed", "error": error})
    else:
        await done("completed", status_details=None)


class _Output:
    """The items of a response."""

    def __init__(
        self, send: Send, response_id: str, last_item: Callable[[], str | None], pace_seconds: float
    ) -> None:
        self._pace_seconds = pace_seconds
        self._send = send
        self._response_id = response_id
        self._last_item = last_item
        self._index = 0

    async def message(self, text: str, with_audio: bool, rate: int) -> None:
        """Send a message as text, or as audio with its transcript."""
        item = self._item(type="message", role="assistant", content=[])
        head = self._head(item) | {"content_index": 0}
        kind = "audio" if with_audio else "text"
        await self._start(item)
        await self._emit("content_part.added", part={"type": kind, "transcript": ""}, **head)
        name = "output_audio_transcript" if with_audio else "output_text"
        words = list(pieces_of(text))
        for word in words:
            await asyncio.sleep(self._pace_seconds)
            await self._emit(f"{name}.delta", delta=word, **head)
            if with_audio:
                for block in blocks(speech(word, rate), rate):
                    delta = base64.b64encode(block).decode()
                    await self._emit("output_audio.delta", delta=delta, **head)
        if with_audio:
            await self._emit("output_audio.done", **head)
        await self._emit(f"{name}.done", **head, **{"transcript" if with_audio else "text": text})
        content = [{"type": f"output_{kind}", "transcript" if with_audio else "text": text}]
        await self._emit("content_part.done", part=content[0], **head)
        await self._finish(item | {"content": content})

    async def call(self, call: Call) -> None:
        """Send a function call, its arguments in pieces."""
        item = self._item(type="function_call", call_id=call.id, name=call.name, arguments="")
        await self._start(item)
        head = self._head(item) | {"call_id": call.id}
        for piece in pieces_of(call.arguments, 5):
            await self._emit("function_call_arguments.delta", delta=piece, **head)
        await self._emit("function_call_arguments.done", arguments=call.arguments, name=call.name, **head)
        await self._finish(item | {"arguments": call.arguments})

    def _item(self, **fields: Any) -> dict[str, Any]:
        name = f"item_{self._response_id}_{self._index}"
        return {"id": name, "object": "realtime.item", "status": "in_progress"} | fields

    def _head(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._index}

    async def _start(self, item: dict[str, Any]) -> None:
        await self._emit("output_item.added", output_index=self._index, item=item)
        added = {"type": "conversation.item.added", "previous_item_id": self._last_item(), "item": item}
        await self._send(added)

    async def _finish(self, item: dict[str, Any]) -> None:
        item = item | {"status": "completed"}
        await self._emit("output_item.done", output_index=self._index, item=item)
        await self._send({"type": "conversation.item.done", "item": item})
        self._index += 1

    async def _emit(self, kind: str, **fields: Any) -> None:
        await self._send({"type": f"response.{kind}", "response_id": self._response_id} | fields)


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "total_tokens": usage.total,
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
        "input_token_details": {
            "cached_tokens": usage.cached,
            "text_tokens": usage.prompt,
            "audio_tokens": 0,
        },
        "output_token_details": {"text_tokens": 0, "audio_tokens": usage.completion},
    }
