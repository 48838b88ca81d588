"""Responses of /v1/analytics and of the timeline in the OpenAPI document, each with an example."""

from typing import Any

from antiphon.session_api.components import reference
from antiphon.session_api.route_docs import answer, route

_SESSION_ID = "ses_01m7yq1we0eqq9xvayxnfetqqd"
_DAILY: dict[str, Any] = {
    "day": "2026-11-21",
    "flow_id": "booking",
    "calls": 214,
    "ended": 212,
    "failed": 3,
    "minutes": 655.25,
    "turns": 1702,
    "interruptions": 118,
    "outcomes": {"agent_lost": 3, "agent_ended": 61, "caller_left": 148},
    "faults": {"none": 207, "platform": 2},
    "response_ms": {"count": 1677, "p50": 612.8, "p95": 1341.0},
    "ready_ms": {"count": 213, "p50": 701.4, "p95": 1502.6},
}
_USAGE: dict[str, Any] = {
    "day": "2026-11-21",
    "kind": "llm",
    "provider": "openai",
    "model": "gpt-4.1-mini",
    "sessions": 209,
    "input_tokens": 1904211,
    "input_cached_tokens": 1201007,
    "input_audio_tokens": 0,
    "output_tokens": 84127,
    "output_audio_tokens": 0,
    "characters": 0,
    "requests": 1702,
    "audio_seconds": 0.0,
}
_ITEM: dict[str, Any] = {
    "session_id": _SESSION_ID,
    "lane": "tool",
    "started_at": "2026-11-21T09:30:12.104Z",
    "ended_at": "2026-11-21T09:30:12.611Z",
    "title": "find_table",
    "detail": "done: 19:00",
    "sequence": 17,
    "part": 0,
}


def _page(schema: str, noun: str, item: Any) -> dict[str, Any]:
    return answer(f"A page of {noun}", reference(schema), {noun: [item], "next": None})


_READ = ("database-unavailable", "view-not-built")
DAILY = route({200: _page("DailyList", "days", _DAILY)}, *_READ)
USAGE = route({200: _page("UsageList", "usage", _USAGE)}, *_READ)
TIMELINE = route(
    {200: _page("TimelineList", "timeline", _ITEM)}, "unknown-session", "broker-unavailable", *_READ
)
