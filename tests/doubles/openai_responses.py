"""OpenAI's responses: `POST /v1/responses` as server-sent events, and the WebSocket of the same path.

https://platform.openai.com/docs/api-reference/responses. Only streams are served.
"""

from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeAlias

from aiohttp import web
from tests.doubles.faults import Pieces, spoils
from tests.doubles.openai_answers import Answer, Answers, Call, pieces_of
from tests.doubles.openai_chat import check_tool
from tests.doubles.openai_errors import EventStream, OpenAIDouble, error_object, required
from tests.doubles.server import KEY, Refused, Socket, json_body

_CREATED = 1_760_000_000
_Item: TypeAlias = Generator[dict[str, Any], None, dict[str, Any]]  # its events; returns the item


class OpenAIResponses(OpenAIDouble):
    """The double; `answers` is its script."""

    def __init__(self, *, key: str = KEY) -> None:
        super().__init__(key=key)
        self.answers = Answers()
        self._calls_of: dict[str, set[str]] = {}  # the open calls of each stored response

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (web.post("/v1/responses", self.handle), web.get("/v1/responses", self.handle))

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Stream the next answer, or each next answer of a WebSocket."""
        if request.method == "GET":
            return await self._serve_socket(request, pieces)
        body = await json_body(request)
        if not body.get("stream"):
            raise Refused(400, "the double serves only streams: set 'stream' to true", param="stream")
        events = self._events(body, keep=spoils(pieces.fault))
        stream = EventStream(request, pieces)
        for event in events:
            await stream.send(event, event["type"])
        return await stream.end()

    async def _serve_socket(self, request: web.Request, pieces: Pieces) -> web.WebSocketResponse:
        socket = Socket(pieces, self.last)
        response = await socket.open(request)
        async for message in socket.messages():
            try:
                for event in self._events(_checked(message), keep=spoils(pieces.fault)):
                    await socket.send(event)
            except Refused as refused:
                self.refusals.append(refused.message)
                error = error_object(refused)
                await socket.send({"type": "error", "status": refused.status, "error": error})
        return response

    def _events(self, body: dict[str, Any], *, keep: bool) -> list[dict[str, Any]]:
        self._check(body)
        self.last.body = body
        answer = self.answers.take(keep=keep)
        number = len(self._calls_of) + 1
        events = list(_events(answer, f"resp_{number}", body))
        if body.get("store", True) is not False:
            self._calls_of[f"resp_{number}"] = {call.id for call in answer.calls}
        return [event | {"sequence_number": n} for n, event in enumerate(events)]

    def _check(self, body: dict[str, Any]) -> None:
        required(body, "model", str)
        items = body.get("input")
        if not isinstance(items, list | str) or not items:
            raise Refused(400, "Missing required parameter: 'input'.", "missing_required_parameter", "input")
        for n, tool in enumerate(body.get("tools") or ()):
            check_tool(tool, f"tools[{n}]")
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self._calls_of:
            raise Refused(
                400, f"Previous response with id '{previous}' not found.", "previous_response_not_found"
            )
        if isinstance(items, list):
            _check_calls(items, set(self._calls_of.get(previous or "", ())))


def _checked(message: dict[str, Any] | bytes) -> dict[str, Any]:
    if not isinstance(message, dict) or message.get("type") != "response.create":
        raise Refused(400, "the message must be of type response.create")
    return message


def _check_calls(items: list[dict[str, Any]], open_calls: set[str]) -> None:
    for item in items:
        if item.get("type") == "function_call":
            open_calls.add(item["call_id"])
        elif item.get("type") == "function_call_output":
            if item["call_id"] not in open_calls:
                raise Refused(
                    400, f"No tool call found for function call output with call_id {item['call_id']}."
                )
            open_calls.discard(item["call_id"])
    if open_calls:
        raise Refused(400, f"No tool output found for function call {sorted(open_calls)[0]}.")


def _events(answer: Answer, response_id: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    output: list[dict[str, Any]] = []

    def response(status: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": response_id,
            "object": "response",
            "created_at": _CREATED,
            "status": status,
            "model": body["model"],
            "output": list(output),
            "parallel_tool_calls": True,
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
        } | fields

    yield {"type": "response.created", "response": response("in_progress")}
    yield {"type": "response.in_progress", "response": response("in_progress")}
    if answer.text:
        output.append((yield from _message(answer.text, response_id)))
    for index, call in enumerate(answer.calls, start=len(output)):
        output.append((yield from _call(call, index)))
    if answer.failed:
        error = {"code": answer.failed, "message": "the double makes the response fail"}
        yield {"type": "response.failed", "response": response("failed", error=error)}
        return
    usage = {
        "input_tokens": answer.usage.prompt,
        "input_tokens_details": {"cached_tokens": answer.usage.cached, "cache_write_tokens": 0},
        "output_tokens": answer.usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.usage.total,
    }
    yield {"type": "response.completed", "response": response("completed", usage=usage)}


def _message(text: str, response_id: str) -> _Item:
    head = {"item_id": f"msg_{response_id}", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": head["item_id"], "type": "message", "role": "assistant", "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}}
    yield {"type": "response.content_part.added", "part": part} | head
    for piece in pieces_of(text):
        yield {"type": "response.output_text.delta", "delta": piece, "logprobs": []} | head
    yield {"type": "response.output_text.done", "text": text, "logprobs": []} | head
    yield {"type": "response.content_part.done", "part": part | {"text": text}} | head
    done = item | {"status": "completed", "content": [part | {"text": text}]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
    return done


def _call(call: Call, index: int) -> _Item:
    head = {"item_id": f"fc_{call.id}", "output_index": index}
    item = {"id": head["item_id"], "type": "function_call", "call_id": call.id, "name": call.name}
    started = item | {"arguments": "", "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": index, "item": started}
    for piece in pieces_of(call.arguments, 5):
        yield {"type": "response.function_call_arguments.delta", "delta": piece} | head
    yield {"type": "response.function_call_arguments.done", "arguments": call.arguments} | head
    done = item | {"arguments": call.arguments, "status": "completed"}
    yield {"type": "response.output_item.done", "output_index": index, "item": done}
    return done
