"""The format of flow files before `voice` and `script`, in which revisions were published."""

from collections.abc import Mapping
from typing import Any

from antiphon.agent_worker.flow.names import Path

BOOKING = {"python": "antiphon.agent_worker.tools.booking:book_table", "outputs": ["reference"]}
_MOVED = {
    "providers": ("voice",),
    **{key: ("script", key) for key in ("slots", "phrases", "rules", "fallback")},
}


def is_earlier(data: Any) -> bool:
    """Return whether a document has the earlier format."""
    return isinstance(data, dict) and "providers" in data and "voice" not in data and "script" not in data


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of the earlier format in that of today."""
    flow: dict[str, Any] = {key: value for key, value in data.items() if key not in _MOVED}
    flow["voice"] = data["providers"]
    flow["script"] = {key: data[key] for key in ("fallback", "slots", "phrases", "rules") if key in data}
    agents = data.get("agents")
    if isinstance(agents, dict):
        flow["agents"] = {name: _agent(agent) for name, agent in agents.items()}
    flow["tools"] = {"book_table": BOOKING}
    return flow


def moved(path: Path) -> Path:
    """Return where a part of the earlier format is in that of today."""
    if path[:1] and (place := _MOVED.get(str(path[0]))) is not None:
        return (*place, *path[1:])
    if len(path) > 2 and path[0] == "agents" and path[2] == "rules":
        return (*path[:2], "script", *path[2:])
    return path


def _agent(agent: Any) -> Any:
    if not isinstance(agent, dict) or "rules" not in agent:
        return agent
    return {key: value for key, value in agent.items() if key != "rules"} | {
        "script": {"rules": agent["rules"]}
    }
