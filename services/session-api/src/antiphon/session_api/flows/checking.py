"""The check of a source by an agent worker, where it would run; this service cannot load flows."""

from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.contracts.flows import (
    FLOW_CHECK,
    MAX_SOURCE_BYTES,
    FlowCheckReply,
    FlowCheckRequest,
    FlowSummary,
    InvalidRecord,
    decode_check_reply,
)
from antiphon.session_api.problems import Problem, broker_unavailable

SHOWN_PROBLEMS = 3  # in the detail; all are in `problems`


async def checked(bus: Bus, flow_id: str, source: str, timeout_seconds: float) -> FlowSummary:
    """Return the summary of a source that an agent worker can run as this flow.

    Raises Problem: 422 with everything that is wrong, 413, 503 when no worker answers.
    """
    size = len(source.encode())
    if size > MAX_SOURCE_BYTES:
        raise too_large(size)
    request = msgspec.json.encode(FlowCheckRequest(source=source))
    if len(request) > bus.max_payload:
        raise too_large(size)
    try:
        await bus.ready()  # to tell an outage of the broker from that of the workers
    except BusUnavailable as error:
        raise broker_unavailable() from error
    try:
        answer = await bus.request(FLOW_CHECK, request, timeout_seconds=timeout_seconds)
        reply = decode_check_reply(answer)
    except (BusUnavailable, InvalidRecord) as error:
        raise _not_checked(error) from error
    if reply.summary is None:
        raise _invalid(reply)
    if reply.summary.flow_id != flow_id:
        reason = f"is {reply.summary.flow_id!r}, and the path says {flow_id!r}: they must be the same"
        raise _problem([{"line": _line_of_id(source), "place": "id", "reason": reason}], 0)
    return reply.summary


def missing_metadata(requires: list[str], metadata: Mapping[str, Any]) -> list[str]:
    """Return the variables of a flow that the metadata of a session does not have."""
    return [name for name in requires if _found(metadata, name) is None]


def _found(metadata: Mapping[str, Any], name: str) -> Any:
    value: Any = metadata
    for step in name.split(".")[1:]:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def too_large(size: int, form: str = "") -> Problem:
    """Return the problem for a source that is too large to be stored, as text or in another form."""
    limit = MAX_SOURCE_BYTES // 1024
    return Problem(413, "content-too-large", f"The flow has {size} bytes{form}; it may have {limit} KiB.")


def _not_checked(error: Exception) -> Problem:
    return Problem(
        503,
        "flow-check-unavailable",
        f"No agent worker has checked the flow ({error}). Nothing was published: try again, and see that an "
        "agent worker runs.",
        retry_after_seconds=5,
    )


def _invalid(reply: FlowCheckReply) -> Problem:
    return _problem([msgspec.structs.asdict(problem) for problem in reply.problems], reply.more)


def _problem(problems: list[dict[str, Any]], more: int) -> Problem:
    shown = "; ".join(
        f"line {one['line']}: {one['place']}{': ' if one['place'] else ''}{one['reason']}"
        for one in problems[:SHOWN_PROBLEMS]
    )
    count = len(problems) + more
    detail = f"The flow has {'a problem' if count == 1 else f'{count} problems'}: {shown}"
    return Problem(422, "invalid-flow", detail, problems=problems, more_problems=more)


def _line_of_id(source: str) -> int:
    lines = (number for number, line in enumerate(source.splitlines(), start=1) if line.startswith("id:"))
    return next(lines, 1)
