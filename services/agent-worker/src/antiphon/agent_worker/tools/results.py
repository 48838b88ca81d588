"""The results of tools as text for the model and the record: JSON or text, within a limit."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livekit.agents import Agent
from livekit.agents.llm import ToolError
from pydantic_core import PydanticSerializationError, to_json

from antiphon.agent_worker.flow.definitions import MAX_RESULT_BYTES

LONGEST_ERROR = 500  # characters of an error that the model and the record are given


def result_text(result: Any, outputs: Sequence[str] = ()) -> str:
    """Return the result of a tool as text: a str as it is, anything else as JSON.

    `outputs` are the fields that it must have. Raises ToolError.
    """
    text = result if isinstance(result, str) else _json(result)
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_RESULT_BYTES:
        raise ToolError(f"the result has {size} bytes, and the limit is {MAX_RESULT_BYTES}")
    if outputs:
        _check_outputs(text, outputs)
    return text


def error_text(text: str) -> str:
    """Return the text of an error within its limit."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"


def _json(result: Any) -> str:
    if result is None:
        return ""
    if isinstance(result, Agent) or (
        isinstance(result, list | tuple) and any(isinstance(item, Agent) for item in result)
    ):
        raise ToolError("a tool of a flow cannot return an agent: write hand_offs in the flow")
    try:
        return to_json(result).decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ToolError("the tool returned something that is not JSON") from error


def _check_outputs(text: str, outputs: Sequence[str]) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        raise ToolError(f"the result is no JSON object, and the flow uses {', '.join(outputs)} of it")
    missing = [name for name in outputs if name not in value]
    if missing:
        raise ToolError(f"the result has no {', '.join(missing)}, which the flow uses")
