"""Hearing, thinking and speaking. Importing this package is cheap; using it loads the models."""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from antiphon.agent_worker.providers.table import PROVIDERS

if TYPE_CHECKING:
    from antiphon.agent_worker.flow.model import Flow

_LOADED = "antiphon.agent_worker.providers"


def prewarm(userdata: MutableMapping[str, Any]) -> None:
    """Load the models that calls will need into a job process's userdata; blocks for about half a second."""
    userdata[_LOADED] = {
        (kind, name): provider.load() for kind, names in PROVIDERS.items() for name, provider in names.items()
    }


def build_voice(flow: "Flow", userdata: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the voice of a flow as keyword arguments for AgentSession.

    `userdata` is what `prewarm` filled; it is filled here when it was not.
    """
    if _LOADED not in userdata:
        prewarm(userdata)
    parts: dict[str, Any] = {}
    for kind in PROVIDERS:
        name = getattr(flow.providers, kind)
        provider = PROVIDERS[kind][name]
        parts[kind] = provider.build(flow, flow.entry, userdata[_LOADED][kind, name], parts)
    return {**parts, "turn_handling": _turn_handling(), "user_away_timeout": flow.silence.after_seconds}


def _turn_handling() -> dict[str, Any]:
    # everything that has a default is said: a default may call a cloud, or begin answers to throw away
    return {
        "turn_detection": "vad",
        "endpointing": {"mode": "fixed", "min_delay": 0.2, "max_delay": 1.0},
        "interruption": {"enabled": True, "mode": "vad"},
        "preemptive_generation": {"enabled": False},
    }
