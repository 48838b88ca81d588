"""Responses of HTTP tools: read within a limit, and given to the model as JSON or text."""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from livekit.agents.llm import ToolError

REFUSED = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN, httpx2.codes.PROXY_AUTHENTICATION_REQUIRED)

_SHOWN = 300  # characters of an error's body that the model reads


async def read_body(response: httpx2.Response, max_bytes: int) -> bytes:
    """Read the body of a response, at most some bytes. Raises ToolError."""
    if (coding := response.headers.get("content-encoding", "identity").lower()) != "identity":
        # a few bytes can become gigabytes; the request does not accept it
        raise ToolError(f"the service answered with the encoding {coding[:20]!r}, which was not asked for")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise ToolError(f"the response is larger than {max_bytes} bytes")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > max_bytes:
            raise ToolError(f"the response is larger than {max_bytes} bytes")
    return bytes(body)


def result_of(response: httpx2.Response, body: bytes) -> Any:
    """Return the result that a response carries. Raises ToolError for an error of the service."""
    if not response.is_success:
        raise ToolError(_failure(response, body))
    if not body:
        return ""
    kind = _media_type(response)
    text = _text(response, body)
    if _is_json(kind):
        try:
            return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
        except (ValueError, RecursionError) as error:
            raise ToolError("the service answered with JSON that cannot be read") from error
    if kind.startswith("text/") or not kind or kind.endswith(("/xml", "+xml", "/yaml")):
        return text
    raise ToolError(f"the service answered with {kind[:50]}, and tools understand JSON and text")


def retry_after(response: httpx2.Response) -> float:
    """Return the seconds that a service asks to wait; 0 if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value)) if value[:1].isdecimal() else _until(value)
    except (ValueError, OverflowError):
        return 0.0


def _until(value: str) -> float:
    if not value:
        return 0.0
    at = parsedate_to_datetime(value)
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _failure(response: httpx2.Response, body: bytes) -> str:
    status = response.status_code
    what = f"the service answered {status} {response.reason_phrase[:50]}".rstrip()
    kind = _media_type(response)
    # the body of a 5xx may be a stack trace; of a refused credential it says nothing to the model
    if not response.is_client_error or status in REFUSED or not (_is_json(kind) or kind == "text/plain"):
        return what
    text = " ".join(_text(response, body).split())
    return f"{what}: {text[:_SHOWN]}" if text else what


def _media_type(response: httpx2.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _text(response: httpx2.Response, body: bytes) -> str:
    try:
        return body.decode(response.charset_encoding or "utf-8", errors="replace").replace("\x00", "\ufffd")
    except LookupError:
        return body.decode("utf-8", errors="replace").replace("\x00", "\ufffd")
