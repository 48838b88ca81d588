"""OpenAI's chat completions, streamed: `POST /v1/chat/completions`, and `GET /v1/models` for a warm-up.

https://platform.openai.com/docs/api-reference/chat. Only `stream: true` is served.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from tests.doubles.faults import Pieces, spoils
from tests.doubles.openai_answers import Answer, Answers, Usage, pieces_of
from tests.doubles.openai_errors import EventStream, OpenAIDouble, required
from tests.doubles.server import KEY, Refused, json_body

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CREATED = 1_760_000_000


class OpenAIChat(OpenAIDouble):
    """The double; `answers` is its script. `models`: the names that it knows, or None for any."""

    def __init__(self, *, key: str = KEY, models: frozenset[str] | None = None) -> None:
        super().__init__(key=key)
        self.answers = Answers()
        self.models = models

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the paths that it answers."""
        return (
            web.post("/v1/chat/completions", self.handle),
            web.get("/v1/models", self._list_models),
        )

    async def answer(self, request: web.Request, pieces: Pieces) -> web.StreamResponse:
        """Stream the next answer."""
        body = await json_body(request)
        self.last.body = body
        self._check(body)
        stream = EventStream(request, pieces)
        answer = self.answers.take(keep=spoils(pieces.fault))
        for chunk in _chunks(answer, body["model"], with_usage=_wants_usage(body)):
            await stream.send(chunk)
        await stream.send("[DONE]")
        return await stream.end()

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        try:
            self.authorize(request)
        except Refused as refused:
            return self.error(refused)
        names = sorted(self.models or ())
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model", "created": 0} for name in names]}
        )

    def _check(self, body: dict[str, Any]) -> None:
        model = required(body, "model", str)
        if self.models is not None and model not in self.models:
            raise Refused(404, f"The model `{model}` does not exist or you do not have access to it.")
        check_messages(required(body, "messages", list))
        if not body.get("stream"):
            raise Refused(400, "the double serves only streams: set 'stream' to true", param="stream")
        tools = body.get("tools")
        if tools is not None and not tools:
            raise Refused(400, "Invalid 'tools': empty array.", "empty_array", "tools")
        for number, tool in enumerate(tools or ()):
            check_tool(tool.get("function"), f"tools[{number}].function")
        if "tool_choice" in body and not tools:
            raise Refused(
                400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
            )


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Raise Refused for a history that the API refuses: roles, and an output for each tool call."""
    if not messages:
        raise Refused(400, "Invalid 'messages': empty array.", "empty_array", "messages")
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        where = f"messages.[{number}]"
        if message.get("role") not in _ROLES:
            raise Refused(400, f"Invalid value: '{message.get('role')}'.", "invalid_value", f"{where}.role")
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_calls:
                raise Refused(
                    400,
                    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
                    param=f"{where}.role",
                )
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            break
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    if open_calls:
        raise Refused(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. Missing: {', '.join(sorted(open_calls))}",
            param="messages",
        )


def check_tool(function: Any, where: str) -> None:
    """Raise Refused for a tool whose name or schema the API refuses."""
    if not isinstance(function, dict) or not _TOOL_NAME.fullmatch(str(function.get("name"))):
        raise Refused(400, f"Invalid '{where}.name'.", "invalid_value", f"{where}.name")
    schema = function.get("parameters", {})
    if schema.get("type", "object") != "object":
        raise Refused(
            400,
            f"Invalid schema for function '{function['name']}': schema must be of 'type: \"object\"'",
            "invalid_function_parameters",
            f"{where}.parameters",
        )
    if function.get("strict") and set(schema.get("required", ())) != set(schema.get("properties", {})):
        raise Refused(
            400,
            f"Invalid schema for function '{function['name']}': 'required' must name every property",
            "invalid_function_parameters",
            f"{where}.parameters",
        )


def _wants_usage(body: dict[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _chunks(answer: Answer, model: str, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    head = {
        "id": "chatcmpl-double",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": None,
    }
    if with_usage:
        head["usage"] = None
    yield chunk({"role": "assistant", "content": None if answer.calls else "", "refusal": None})
    for piece in pieces_of(answer.text):
        yield chunk({"content": piece})
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        yield chunk(
            {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
        )
        for piece in pieces_of(call.arguments, 5):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if answer.failed:
        message = "The server had an error while processing your request"
        yield {"error": {"message": message, "type": "server_error", "param": None, "code": answer.failed}}
        return
    yield chunk({}, "tool_calls" if answer.calls else "stop")
    if with_usage:
        yield head | {"choices": [], "usage": _usage(answer.usage)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
