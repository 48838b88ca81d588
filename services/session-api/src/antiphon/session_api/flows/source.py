"""The source of a flow in a request, and the media type of one in an answer."""

from typing import Any

from fastapi import Request

from antiphon.session_api.problems import Problem, invalid

YAML = "application/yaml"
TEXT = "text/plain"
JSON = "application/json"
_YAML_TYPES = frozenset({YAML, "application/x-yaml", "text/yaml", "text/x-yaml", "text/vnd.yaml", TEXT, ""})
_ANY = {"*/*": JSON, "application/*": JSON}


async def source_of(request: Request) -> str:
    """Return the source of a flow: the body as YAML, or `source` of a JSON object.

    Raises Problem 400, 415, 422.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == JSON:
        return _of_json(await request.json())
    if media_type not in _YAML_TYPES:
        detail = (
            f"Send a flow as {YAML}, or as {JSON} with its text as `source`, not as {media_type[:100]!r}."
        )
        raise Problem(415, "unsupported-media-type", detail)
    body = await request.body()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise Problem(
            422,
            "invalid-flow",
            f"The flow is not UTF-8: byte {error.start}, in line {line}.",
            problems=[{"line": line, "place": "", "reason": "not UTF-8"}],
            more_problems=0,
        ) from error
    return text.removeprefix("\N{BYTE ORDER MARK}")


def _of_json(body: Any) -> str:
    if not isinstance(body, dict) or not isinstance(body.get("source"), str):
        raise invalid("source", "body", "is the text of the flow, and is missing", "missing")
    if unknown := [name for name in body if name != "source"]:
        raise invalid(unknown[0][:64], "body", "is unknown: the body has only source", "extra_forbidden")
    source: str = body["source"]
    return source


def preferred(accept: str, text_type: str) -> str:
    """Return which of JSON and a type of text a client prefers by its Accept; JSON if it is all the same."""
    quality = {JSON: -1.0, text_type: -1.0}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        name = _ANY.get(name, name)
        if name == "text/*" or (text_type == YAML and name in _YAML_TYPES - {""}):
            name = text_type
        if name in quality:
            weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
            quality[name] = max(quality[name], _number(weight))
    return text_type if quality[text_type] > quality[JSON] else JSON


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
